//! The `ops` listener: liveness, readiness and metrics, on loopback.

use std::sync::Arc;

use axum::Router;
use axum::extract::State;
use axum::http::StatusCode;
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use pki::name::ClusterName;

use crate::app::App;

#[derive(Clone)]
struct Ops {
    app: Arc<App>,
    home: ClusterName,
}

/// The routes: `/healthz`, `/readyz` and `/metrics`.
pub fn router(app: &Arc<App>, home: &ClusterName) -> Router {
    Router::new()
        .route("/healthz", get(|| async { "ok\n" }))
        .route("/readyz", get(ready))
        .route("/metrics", get(metrics))
        .fallback(|| async { StatusCode::NOT_FOUND })
        .with_state(Ops {
            app: app.clone(),
            home: home.clone(),
        })
}

/// Ready when it could issue: an active authority whose key signs, a clock that is believed, a store that answers, and someone
/// who tells of what is issued where the certificates say that it is told.
async fn ready(State(Ops { app, home }): State<Ops>) -> Response {
    let not_ready =
        |why: String| (StatusCode::SERVICE_UNAVAILABLE, format!("{why}\n")).into_response();
    let now = match app.context().clock.trusted_now() {
        Ok(now) => now,
        Err(error) => return not_ready(error.to_string()),
    };
    let active = app
        .snapshot()
        .clusters
        .get(&home)
        .and_then(|cluster| cluster.active.clone());
    match active {
        None => return not_ready(format!("cluster {home} has no active authority")),
        Some(active) if active.life().not_after <= now => {
            let (id, end) = (&active.id, active.life().not_after);
            return not_ready(format!("authority {id} of cluster {home} ended at {end}"));
        }
        Some(active) if !active.is_ready() => {
            let id = &active.id;
            return not_ready(format!(
                "the key of authority {id} does not sign: see the log"
            ));
        }
        Some(_) => {}
    }
    if app.status().has_gone_back() {
        return not_ready(
            "the store has gone back: see the log, and ca-server store accept".to_owned(),
        );
    }
    if !app.serves() {
        return not_ready("issue and admin do not listen yet: see the log".to_owned());
    }
    if !app.follows_the_store() {
        return not_ready("what has changed in the store is not taken up: see the log".to_owned());
    }
    if !app.writes() {
        return not_ready("the store takes nothing: see the log".to_owned());
    }
    let settings = &app.context().settings;
    let nobody = app.without_responder();
    if settings.tells_of_ocsp() && !nobody.is_empty() {
        let ids: Vec<_> = nobody.iter().map(ToString::to_string).collect();
        return not_ready(format!("nobody answers OCSP for {} yet", ids.join(", ")));
    }
    match app.context().store.change_sequence().await {
        Ok(_) => "ready\n".into_response(),
        Err(error) => not_ready(crate::app::chain(&error)),
    }
}

async fn metrics(State(Ops { app, .. }): State<Ops>) -> Response {
    app.metrics()
        .set_clock_trusted(app.context().clock.trusted_now().is_ok());
    app.metrics().set_follows_the_store(app.follows_the_store());
    match app.metrics().encode() {
        Ok(text) => {
            let kind = "application/openmetrics-text; version=1.0.0; charset=utf-8";
            ([(CONTENT_TYPE, kind)], text).into_response()
        }
        Err(_) => StatusCode::INTERNAL_SERVER_ERROR.into_response(),
    }
}
