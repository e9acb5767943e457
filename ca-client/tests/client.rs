//! The library against a server that speaks the contract over TLS.

mod support;

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use ca_client::{
    AnswerError, ClientError, CredentialsError, Endpoint, FilesError, Hook, HookOutcome, Order,
    bundle, enroll,
};
use pki::certificate::{Certificate, Issuer};
use pki::time::Ttl;
use support::{ID, Manner, World, now, own_id, token};
use tonic::Code;

/// Far above what any of these takes; a test that hangs fails instead.
const LONG: Duration = Duration::from_secs(60);

#[tokio::test]
async fn enrolling_writes_a_set_that_verifies() {
    let world = World::start().await;
    let order = Order {
        ttl: Some(Ttl::hours(2)),
        ..Order::default()
    };
    let directory = world.directory();
    let signed = enroll(
        &world.endpoint(),
        &token(),
        &own_id(),
        &order,
        &directory,
        now(),
    )
    .await
    .unwrap();

    let seen = world.server.last_seen();
    assert_eq!(
        seen.authorization.as_deref(),
        Some("Bearer good.service-account.token")
    );
    assert_eq!(seen.cluster.as_deref(), Some("Kubernetes"));
    assert_eq!((seen.ttl_seconds, seen.certificate), (Some(7_200), None));

    let stored = directory.load().unwrap();
    assert_eq!(stored.leaf().serial(), signed.serial());
    assert_eq!(stored.leaf().spiffe_id().unwrap().as_str(), ID);
    let roots = Certificate::parse_pem(stored.bundle_pem.as_bytes()).unwrap();
    let above = [&stored.chain[1..], &roots].concat();
    let issuer = Issuer::from_chain(&above).unwrap();
    stored.leaf().verify_by(issuer.key()).unwrap();
}

#[tokio::test]
async fn an_answer_that_is_not_ours_is_refused_and_nothing_is_written() {
    let world = World::start().await;
    let directory = world.directory();
    let manners = [
        Manner::Expired,
        Manner::ForeignRoot,
        Manner::OtherKey,
        Manner::OtherName,
    ];
    for enrolled in [false, true] {
        let before = enrolled.then(|| world.put_identity(now()));
        for manner in manners {
            world.server.behave(manner);
            let error = enroll(
                &world.endpoint(),
                &token(),
                &own_id(),
                &Order::default(),
                &directory,
                now(),
            )
            .await
            .unwrap_err();
            let ClientError::Answer(reason) = &error else {
                panic!("{manner:?}: {error:?}");
            };
            let expected = match manner {
                Manner::Expired => matches!(reason, AnswerError::NotValidNow { .. }),
                Manner::ForeignRoot => matches!(reason, AnswerError::Chain { .. }),
                // The stand-in makes a key of its own for the other name.
                _ => matches!(reason, AnswerError::Key),
            };
            assert!(expected && !error.is_temporary(), "{manner:?}: {reason}");
            match (directory.load(), &before) {
                (Err(FilesError::NotEnrolled { .. }), None) => {
                    assert!(support::read(&world.path("id/tls.key")).is_none());
                }
                (Ok(stored), Some(before)) => assert_eq!(stored.leaf(), before),
                (other, _) => panic!("{manner:?}: {other:?}"),
            }
        }
    }
}

#[tokio::test]
async fn failures_are_told_apart_by_what_one_does_about_them() {
    let world = World::start().await;
    let directory = world.directory();
    let order = Order::default();
    let names = own_id();
    let ask = async |endpoint: Endpoint, credentials| {
        enroll(&endpoint, &credentials, &names, &order, &directory, now())
            .await
            .unwrap_err()
    };

    let stranger = ca_client::Credentials::enrolment("signet_enrol_stranger").unwrap();
    let error = ask(world.endpoint(), stranger).await;
    let refused = matches!(&error, ClientError::Refused { code: Code::Unauthenticated, message } if message.contains("audience"));
    assert!(refused && !error.is_temporary(), "{error:?}");

    world.server.behave(Manner::Away(1));
    let error = ask(world.endpoint(), token()).await;
    let away = matches!(
        &error,
        ClientError::Temporary {
            code: Code::Unavailable,
            ..
        }
    );
    assert!(away && error.is_temporary(), "{error:?}");

    let foreign = world.server.foreign.root.to_pem().into_bytes();
    let error = ask(
        Endpoint::new(&world.address, foreign, None).unwrap(),
        token(),
    )
    .await;
    let not_trusted = matches!(&error, ClientError::NotTrusted { .. });
    assert!(not_trusted && !error.is_temporary(), "{error:?}");

    let roots = world.server.authority.root.to_pem().into_bytes();
    let other_name = Some("other.example".to_owned());
    let error = ask(
        Endpoint::new(&world.address, roots.clone(), other_name).unwrap(),
        token(),
    )
    .await;
    assert!(
        matches!(&error, ClientError::NotTrusted { .. }),
        "{error:?}"
    );

    // A port that was just given back.
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let nobody = format!("https://localhost:{}", free.local_addr().unwrap().port());
    drop(free);
    let error = ask(Endpoint::new(&nobody, roots, None).unwrap(), token()).await;
    let unreachable = matches!(&error, ClientError::Unreachable { .. });
    assert!(unreachable && error.is_temporary(), "{error:?}");
}

#[tokio::test]
async fn a_renewal_proves_itself_by_the_current_certificate_and_takes_a_new_key() {
    let world = World::start().await;
    let old = world.put_identity(now());
    let old_key = world.directory().load().unwrap().key_pem;
    let renewed = world.renewal().once(now()).await.unwrap();

    let seen = world.server.last_seen();
    assert_eq!(seen.certificate.as_deref(), Some(old.der()));
    assert_eq!(seen.authorization, None);
    let stored = world.directory().load().unwrap();
    assert_eq!(stored.leaf(), renewed.signed.leaf());
    assert_ne!(stored.leaf().spki(), old.spki());
    assert_ne!(stored.key_pem, old_key);
    assert_eq!(stored.leaf().alt_names(), old.alt_names());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reader_never_sees_a_key_of_another_certificate() {
    let world = World::start().await;
    world.put_identity(now());
    let renewal = world.renewal();
    let directory = world.directory();
    let done = AtomicBool::new(false);
    let (mut read, mut serials) = (0u32, std::collections::HashSet::new());
    std::thread::scope(|scope| {
        let reader = scope.spawn(|| {
            while !done.load(Ordering::Relaxed) {
                // `load` reads the files as any reader does, and says when key and certificate do not match.
                let stored = directory.load().unwrap();
                read += 1;
                serials.insert(stored.leaf().serial().to_string());
            }
        });
        let runtime = tokio::runtime::Handle::current();
        tokio::task::block_in_place(|| {
            runtime.block_on(async {
                for _ in 0..20 {
                    renewal.once(now()).await.unwrap();
                }
            });
        });
        done.store(true, Ordering::Relaxed);
        reader.join().unwrap();
    });
    assert!(serials.len() > 2, "{read} reads saw {} sets", serials.len());
}

#[tokio::test]
async fn watching_renews_at_half_life_through_an_outage_and_runs_the_hook() {
    let world = World::start().await;
    let old = world.put_identity(now().minus(Ttl::hours(14)));
    world.server.behave(Manner::Away(3));
    let fifo = world.path("told");
    let made = std::process::Command::new("mkfifo").arg(&fifo).status();
    assert!(made.unwrap().success());
    let told = tokio::net::unix::pipe::OpenOptions::new()
        .open_receiver(&fifo)
        .unwrap();
    let mut renewal = world.renewal();
    renewal.hook = Some(Hook::new("echo \"$SIGNET_DIR\" > \"$SIGNET_DIR/../told\""));

    let mut line = [0; 1024];
    let hook_ran = async {
        told.readable().await.unwrap();
        // Ready once the hook has opened the other end, with or without bytes in it.
        while matches!(told.try_read(&mut line), Err(error) if error.kind() == std::io::ErrorKind::WouldBlock)
        {
            told.readable().await.unwrap();
        }
    };
    let watched = renewal.watch(&now, hook_ran);
    tokio::time::timeout(LONG, watched).await.unwrap().unwrap();

    let stored = world.directory().load().unwrap();
    assert_ne!(stored.leaf().serial(), old.serial());
    // Three times away, once not.
    assert_eq!(world.server.seen.lock().unwrap().len(), 4);
    let told = String::from_utf8_lossy(&line);
    assert!(
        told.trim_end_matches(['\0', '\n']).ends_with("/id"),
        "{told}"
    );
}

#[tokio::test]
async fn watching_leaves_a_young_certificate_alone_until_it_is_stopped() {
    let world = World::start().await;
    world.put_identity(now());
    let renewal = world.renewal();
    // The first poll runs up to the sleep; the second sees the stop.
    let watched = renewal.watch(&now, tokio::task::yield_now());
    tokio::time::timeout(LONG, watched).await.unwrap().unwrap();
    assert!(world.server.seen.lock().unwrap().is_empty());

    let empty = tempfile::tempdir().unwrap();
    let mut renewal = renewal;
    renewal.directory = ca_client::IdentityDir::new(empty.path(), ca_client::FileNames::default());
    let error = renewal
        .watch(&now, std::future::pending())
        .await
        .unwrap_err();
    let not_enrolled = matches!(error, ClientError::Files(FilesError::NotEnrolled { .. }));
    assert!(not_enrolled, "{error:?}");
}

#[tokio::test]
async fn an_expired_certificate_is_replaced_by_the_token_where_there_is_one() {
    let world = World::start().await;
    let old = world.put_identity(now().minus(Ttl::days(3)));
    let mut renewal = world.renewal();

    let error = renewal.once(now()).await.unwrap_err();
    // The server's alert, or the end of the connection where that comes first.
    let shut_out = matches!(
        &error,
        ClientError::NotTaken { .. } | ClientError::Closed { .. } | ClientError::Lost { .. }
    );
    assert!(shut_out, "{error:?}");
    assert_eq!(world.directory().load().unwrap().leaf(), &old);

    renewal.fallback = Some(world.token_source());
    renewal.once(now()).await.unwrap();
    let seen = world.server.last_seen();
    assert_eq!(
        (seen.certificate, seen.cluster.as_deref()),
        (None, Some("Kubernetes"))
    );
    let stored = world.directory().load().unwrap();
    assert_eq!(stored.leaf().alt_names(), old.alt_names());
    assert!(stored.leaf().is_valid_at(now()));
}

#[tokio::test]
async fn a_servers_certificate_is_renewed_by_token_since_it_is_no_clients() {
    let world = World::start().await;
    let names = pki::extension::SubjectNames {
        dns: vec!["gateway.example".parse().unwrap()],
        ..Default::default()
    };
    world
        .server
        .behave(Manner::Profile(pki::profile::Profile::SERVER));
    let order = Order {
        profile: Some("server".parse().unwrap()),
        ..Order::default()
    };
    let directory = world.directory();
    enroll(
        &world.endpoint(),
        &token(),
        &names,
        &order,
        &directory,
        now(),
    )
    .await
    .unwrap();
    assert_eq!(world.server.last_seen().profile, "server");

    let mut renewal = world.renewal();
    renewal.order = order;
    let error = renewal.once(now()).await.unwrap_err();
    let not_a_client = matches!(
        error,
        ClientError::Credentials(CredentialsError::NotAClient)
    );
    assert!(not_a_client, "{error:?}");
    renewal.fallback = Some(world.token_source());
    renewal.once(now()).await.unwrap();
    assert_eq!(world.server.last_seen().certificate, None);
}

#[tokio::test]
async fn a_failing_hook_does_not_undo_the_renewal() {
    let world = World::start().await;
    let old = world.put_identity(now());
    let mut renewal = world.renewal();
    renewal.hook = Some(Hook::new("exit 7"));
    let renewed = renewal.once(now()).await.unwrap();
    assert!(matches!(renewed.hook, Some(HookOutcome::Failed(_))));
    assert_ne!(world.directory().load().unwrap().leaf(), &old);
}

#[tokio::test]
async fn a_hook_that_was_not_run_is_run_at_the_next_start() {
    let world = World::start().await;
    world.put_identity(now());
    let mut renewal = world.renewal();
    // As a kill between the new files and the hook would leave it: the hook of this one never ends well.
    renewal.hook = Some(Hook::new("exit 7"));
    renewal.once(now()).await.unwrap();
    let told = world.path("told");
    renewal.hook = Some(Hook::new("echo >> \"$SIGNET_DIR/../told\""));
    for _ in 0..2 {
        let seen = async {
            while !told.exists() {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        };
        let watched = renewal.watch(&now, seen);
        tokio::time::timeout(LONG, watched).await.unwrap().unwrap();
    }
    assert_eq!(std::fs::read_to_string(&told).unwrap(), "\n", "once");
    assert_eq!(world.server.seen.lock().unwrap().len(), 1);
}

#[tokio::test]
async fn a_new_root_of_the_server_is_followed_through_the_bundle() {
    let world = World::start().await;
    world.put_identity(now());
    let mut renewal = world.renewal();
    // The roots of the enrolment are those of a server that has since changed them.
    let foreign = world.server.foreign.root.to_pem().into_bytes();
    renewal.endpoint = Endpoint::new(&world.address, foreign, None).unwrap();
    let error = renewal.once(now()).await.unwrap_err();
    assert!(matches!(error, ClientError::NotTrusted { .. }), "{error:?}");
    renewal.follow_bundle = true;
    renewal.once(now()).await.unwrap();
}

#[tokio::test]
async fn bundles_are_followed_forwards_only() {
    let world = World::start().await;
    let endpoint = world.endpoint();
    let trust_domain = support::trust_domain();
    let first = bundle::get(&endpoint, &trust_domain).await.unwrap();
    assert_eq!(first.sequence(), 1);
    let other = pki::name::TrustDomain::parse("other.test").unwrap();
    let error = bundle::get(&endpoint, &other).await.unwrap_err();
    let other_bundle = matches!(error, ClientError::Answer(AnswerError::OtherBundle { .. }));
    assert!(other_bundle, "{error:?}");

    let (new, mut news) = tokio::sync::mpsc::unbounded_channel();
    let backoff = world.renewal().backoff;
    let on_bundle = |bundle: &pki::bundle::Bundle| {
        new.send(bundle.sequence()).unwrap();
        Ok(())
    };
    let server = &world.server;
    let seen = async {
        assert_eq!(news.recv().await, Some(1));
        server.bundle.send(server.authority.bundle(5)).unwrap();
        assert_eq!(news.recv().await, Some(5));
        // An older one and the same one, each followed by a newer one: only the newer ones come through.
        for (stale, fresh) in [(3, 6), (6, 7)] {
            server.bundle.send(server.authority.bundle(stale)).unwrap();
            tokio::task::yield_now().await;
            server.bundle.send(server.authority.bundle(fresh)).unwrap();
            assert_eq!(news.recv().await, Some(fresh));
        }
    };
    let watched = bundle::watch(&endpoint, &trust_domain, &backoff, on_bundle, seen);
    tokio::time::timeout(LONG, watched).await.unwrap();

    let file = world.path("bundle.pem");
    bundle::write(&file, &first).unwrap();
    assert_eq!(std::fs::read_to_string(file).unwrap(), first.to_pem());
}
