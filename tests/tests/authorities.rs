//! An authority's life: request, import, publication, activation when due, retirement; and every wrong import.

#![expect(clippy::unwrap_used, reason = "what fails here is a failed test")]

use std::sync::Arc;

use ca_server::app::{Actor, Context, ErrorKind, NewKey, authority};
use ca_server::clock::{ClockGuard, ManualClock};
use ca_server::config::Config;
use ca_server::store::model::{AuthorityState, CrlShape};
use pki::certificate::Certificate;
use pki::crl::Crl;
use pki::key::KeyAlgorithm;
use pki::name::{AuthorityId, ClusterName};
use pki::time::Ttl;
use tests::fleet::{Fleet, Root};

const DAY: i64 = 86_400;

struct World {
    context: Context,
    clock: Arc<ManualClock>,
    fleet: Fleet,
    cluster: ClusterName,
}

/// A fleet whose one authority is active, administered in this process under a clock that the test holds.
async fn world() -> World {
    let fleet = Fleet::on_sqlite(&["central"]);
    let config = Config::load(&fleet.path("ca-server.toml")).unwrap();
    let mut context = ca_server::cli::open(&config).await.unwrap();
    let clock = Arc::new(ManualClock::at(tests::now()));
    context.clock = Arc::new(ClockGuard::new(clock.clone()));
    World {
        context,
        clock,
        fleet,
        cluster: ClusterName::parse("central").unwrap(),
    }
}

impl World {
    async fn request(&self) -> (AuthorityId, Vec<u8>) {
        let actor = Actor::local("test");
        let row = authority::request(
            &self.context,
            &self.cluster,
            &NewKey::InStore(KeyAlgorithm::EcdsaP256),
            CrlShape::default(),
            &actor,
        );
        let row = row.await.unwrap();
        (row.id, pki::pem::request(&row.request).into_bytes())
    }

    async fn import(&self, id: &AuthorityId, chain: &str) -> Result<(), (ErrorKind, String)> {
        let chain = Certificate::parse_pem(chain.as_bytes()).unwrap();
        let imported =
            authority::import(&self.context, id, chain, None, &Actor::local("test")).await;
        imported
            .map(|_| ())
            .map_err(|error| (error.kind(), error.to_string()))
    }

    async fn state(&self, id: &AuthorityId) -> AuthorityState {
        authority::find(&self.context, id).await.unwrap().state
    }

    /// Two turns: what the first publishes may be due in the second.
    async fn reconcile(&self) {
        authority::reconcile(&self.context).await.unwrap();
        authority::reconcile(&self.context).await.unwrap();
    }
}

#[tokio::test]
async fn the_next_authority_takes_over_by_itself_when_it_is_due() {
    let world = world().await;
    let first = AuthorityId::of_cluster(&world.cluster, 1);
    assert_eq!(world.state(&first).await, AuthorityState::Active);

    let (second, request) = world.request().await;
    world
        .import(&second, &world.fleet.root.sign(&request, Ttl::days(700)))
        .await
        .unwrap();
    assert_eq!(world.state(&second).await, AuthorityState::Imported);
    world.reconcile().await;
    assert_eq!(
        world.state(&second).await,
        AuthorityState::Published,
        "trusted before it signs"
    );
    let crl = world
        .context
        .store
        .crl(&second)
        .await
        .unwrap()
        .expect("its first CRL is there");
    let own = authority::find(&world.context, &second)
        .await
        .unwrap()
        .chain
        .remove(0);
    let key = Certificate::parse(&own).unwrap().public_key().unwrap();
    Crl::parse(&crl.der).unwrap().verify_by(&key).unwrap();

    world.clock.advance(334 * DAY);
    world.reconcile().await;
    assert_eq!(
        world.state(&second).await,
        AuthorityState::Published,
        "not due for another day"
    );
    world.clock.advance(2 * DAY);
    world.reconcile().await;
    assert_eq!(world.state(&second).await, AuthorityState::Active);
    assert_eq!(world.state(&first).await, AuthorityState::Retiring);
    world.clock.advance(30 * DAY);
    world.reconcile().await;
    assert_eq!(world.state(&first).await, AuthorityState::Retired);
}

#[tokio::test]
async fn a_wrong_chain_or_key_is_refused_and_says_what_was_expected() {
    let world = world().await;
    let (id, request) = world.request().await;
    let good = world.fleet.root.sign(&request, Ttl::days(365));
    let refused = |chain: String| {
        let (world, id) = (&world, &id);
        async move {
            world
                .import(id, &chain)
                .await
                .expect_err("the chain is wrong")
        }
    };

    let other_key = {
        let (key, _) = hsm::SoftwareSigner::generate(KeyAlgorithm::EcdsaP256).unwrap();
        let name = pki::name::DistinguishedName::new(None, "central cluster CA 2").unwrap();
        let prepared = pki::csr::prepare_request(&name, hsm::Signer::public_key(&key));
        let signature = hsm::Signer::sign(&key, prepared.to_be_signed()).unwrap();
        let request = prepared.seal(&signature).unwrap();
        world
            .fleet
            .root
            .sign(pki::pem::request(request.der()).as_bytes(), Ttl::days(365))
    };
    let (kind, text) = refused(other_key).await;
    assert_eq!(kind, ErrorKind::Malformed);
    assert!(text.contains("another key"), "{text}");

    let stranger = Root::new("Stranger");
    let own = good
        .split_inclusive("-----END CERTIFICATE-----\n")
        .next()
        .unwrap();
    let (_, text) = refused(format!("{own}{}", stranger.certificate().to_pem())).await;
    assert!(text.contains("not signed by the next one"), "{text}");

    // Another root of the same name, and one that is plainly another: nobody believes in it because a file says so.
    for (name, words) in [
        ("Test Root", "has the name of one"),
        ("Other", "does not believe in"),
    ] {
        let chain = Root::new(name).sign(&request, Ttl::days(365));
        let (kind, text) = refused(chain).await;
        assert_eq!(kind, ErrorKind::Conflict);
        assert!(
            text.contains(words) && text.contains("--new-root"),
            "{text}"
        );
    }

    let (_, text) = refused(world.fleet.root_pem()).await;
    assert!(text.contains("another key"), "{text}");

    let subject = world
        .fleet
        .root
        .sign_another_name(&request, "central cluster CA 1");
    let (kind, text) = refused(subject).await;
    assert_eq!(kind, ErrorKind::Conflict);
    assert!(text.contains("central-1 has the same subject"), "{text}");

    // Nothing was taken, and the right one still is; the root that is known may be left out.
    assert_eq!(world.state(&id).await, AuthorityState::Requested);
    world.import(&id, own).await.unwrap();
    let (kind, text) = world.import(&id, own).await.unwrap_err();
    assert_eq!(kind, ErrorKind::Conflict);
    assert!(text.contains("only a requested authority"), "{text}");
}

#[tokio::test]
async fn there_are_two_slots_and_no_third() {
    let world = world().await;
    let (second, _) = world.request().await;
    let actor = Actor::local("test");
    let third = authority::request(
        &world.context,
        &world.cluster,
        &NewKey::InStore(KeyAlgorithm::EcdsaP256),
        CrlShape::default(),
        &actor,
    );
    let error = third.await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Conflict);
    assert!(error.to_string().contains(second.as_str()), "{error}");
}

#[tokio::test]
async fn an_authority_with_too_little_life_left_never_signs() {
    let world = world().await;
    let (second, request) = world.request().await;
    // The harness lets leaves live seven days.
    world
        .import(&second, &world.fleet.root.sign(&request, Ttl::days(6)))
        .await
        .unwrap();
    world.reconcile().await;
    let error = authority::activate(&world.context, &second, &Actor::local("test"))
        .await
        .unwrap_err();
    assert!(error.to_string().contains("sooner than the 7d"), "{error}");
    world.clock.advance(5 * DAY);
    world.reconcile().await;
    assert_eq!(world.state(&second).await, AuthorityState::Published);
}
