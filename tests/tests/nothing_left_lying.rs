//! Where secrets are, and where they are not: in the memory of a running `ca-server`, in every file that a scenario makes, and in
//! what is logged. SECURITY.md says what may be found; each test here says exactly that, and finds what was planted.

#![expect(clippy::unwrap_used, reason = "what fails here is a failed test")]

use std::collections::BTreeSet;
use std::path::Path;
use std::process::Command;

use ca_server::store::model::AuthorityState;
use ca_server::store::{Store, StoreUrl};
use hsm::Signer;
use num_bigint::BigUint;
use pki::key::KeyAlgorithm;
use pki::name::AuthorityId;
use pki::time::Ttl;
use ring::aead::{AES_256_GCM, Aad, LessSafeKey, Nonce, UnboundKey};
use rustix::process::Signal;
use tests::fleet::{Fleet, Server};
use tests::http::get;
use tests::istio::wait_until;
use tests::memory::{self, Find, Secret};
use tests::process::run;
use tests::requests::{KeyAndRequest, create_certificate};
use tests::softhsm::SoftHsm;

/// What the harness writes.
const PASSPHRASE: &[u8] = b"a passphrase for tests only";
const PIN: &str = "9174-tests-pin-4406";
const PLANTED: &[u8] = b"planted, and to be found: 6f1c";
/// The order of P-256.
const ORDER: &[u8] = b"ffffffff00000000ffffffffffffffffbce6faada7179e84f3b9cac2fc632551";

fn or_skip(test: &str) -> Option<()> {
    if memory::may_look() {
        return Some(());
    }
    tests::parts::skip(test, "another process's memory is read by root alone");
    None
}

/// A private key of P-256 in PKCS#8, in its shapes: ring computes with it in Montgomery form.
fn key(name: &str, pkcs8: &[u8]) -> Secret {
    let head = [0x02, 0x01, 0x01, 0x04, 0x20];
    let at = memchr::memmem::find(pkcs8, &head).unwrap() + head.len();
    let scalar = &pkcs8[at..at + 32];
    let order = BigUint::parse_bytes(ORDER, 16).unwrap();
    let montgomery: BigUint = (BigUint::from_bytes_be(scalar) << 256_u32) % order;
    let mut words = montgomery.to_bytes_le();
    words.resize(32, 0);
    Secret::scalar(name, scalar).with_shape("Montgomery words", words)
}

fn decrypt(key: &[u8], context: &[u8], sealed: &[u8]) -> Vec<u8> {
    let key = LessSafeKey::new(UnboundKey::new(&AES_256_GCM, key).unwrap());
    let (nonce, rest) = sealed.split_at(12);
    let nonce = Nonce::try_assume_unique_for_key(nonce).unwrap();
    let mut buffer = rest.to_vec();
    key.open_in_place(nonce, Aad::from(context), &mut buffer)
        .unwrap()
        .to_vec()
}

/// What an installation under a passphrase holds, read by nothing but the passphrase and the store.
struct Opened {
    store: Store,
    wrapping_key: Vec<u8>,
    key_encryption_key: Vec<u8>,
}

impl Opened {
    async fn of(fleet: &Fleet) -> Self {
        let url = format!("sqlite://{}", fleet.path("ca.db").display());
        let store = Store::open(&StoreUrl::parse(&url).unwrap()).await.unwrap();
        let installation = store.installation().await.unwrap().unwrap();
        let mut wrapping_key = vec![0; 32];
        let cost = scrypt::Params::new(17, 8, 1).unwrap();
        scrypt::scrypt(PASSPHRASE, &installation.salt, &cost, &mut wrapping_key).unwrap();
        let context = b"signet key-encryption key v1 passphrase";
        Self {
            key_encryption_key: decrypt(&wrapping_key, context, &installation.sealed_key),
            wrapping_key,
            store,
        }
    }

    async fn key_of(&self, id: &str) -> Secret {
        let id = AuthorityId::parse(id).unwrap();
        let row = self.store.authority(&id).await.unwrap().unwrap();
        let length = u16::try_from(id.as_str().len()).unwrap().to_be_bytes();
        let context = [
            b"signet authority key v1",
            &length[..],
            id.as_str().as_bytes(),
            &row.spki,
        ]
        .concat();
        let sealed = row.sealed_key.unwrap();
        let pkcs8 = decrypt(&self.key_encryption_key, &context, &sealed);
        key(&format!("the key of {id}"), &pkcs8)
    }

    /// As the reconciler does once the last leaf has expired.
    async fn retire(&self, id: &str) {
        let id = AuthorityId::parse(id).unwrap();
        let mut row = self.store.authority(&id).await.unwrap().unwrap();
        assert_eq!(row.state, AuthorityState::Retiring);
        row.state = AuthorityState::Retired;
        self.store
            .update_authority(&row, row.version, &[])
            .await
            .unwrap();
    }
}

/// The server, with something in its environment, core dumps allowed as far as the harness can, and everything logged.
fn serve(fleet: &Fleet) -> Server {
    fleet.configure("[log]\nfilter = \"trace\"\n");
    let ours = fleet.ca_server(&["serve"]);
    let mut command = Command::new("sh");
    command.args(["-c", "ulimit -c unlimited; exec \"$@\"", "sh"]);
    command.arg(ours.get_program()).args(ours.get_args());
    for (name, value) in ours.get_envs() {
        command.env(name, value.unwrap());
    }
    command.env("PLANTED", std::str::from_utf8(PLANTED).unwrap());
    std::fs::create_dir(fleet.path("working")).unwrap();
    command.current_dir(fleet.path("working"));
    Server::start(&mut command, fleet)
}

async fn issue(fleet: &Fleet, server: &Server, times: usize) {
    let cluster = &fleet.clusters[0];
    let mut istio = server.istio().await;
    for _ in 0..times {
        let token = cluster.tokens.token("foo", "bar");
        let request = KeyAndRequest::for_uris(&["spiffe://cluster.local/ns/foo/sa/bar"]);
        create_certificate(&mut istio, &token, &cluster.name, &request.pem(), 600)
            .await
            .unwrap();
    }
}

fn names(finds: &[Find]) -> BTreeSet<&str> {
    finds.iter().map(|find| find.secret.as_str()).collect()
}

/// What is found in the server's memory is this, and nothing else.
fn check_memory(server: &mut Server, secrets: &[Secret], may_be_found: &[String]) {
    let finds = memory::of_process(server.process().id(), secrets);
    let expected: BTreeSet<&str> = may_be_found.iter().map(String::as_str).collect();
    assert_eq!(names(&finds), expected, "{finds:#?}");
}

/// Nothing is in the log, nor in any file but the one that it came in; and a file with something in it is found.
fn check_files(fleet: &Fleet, server: &Server, more: &[&Path], came_in: &Path, secrets: &[Secret]) {
    let log = server.log().lines().join("\n");
    assert!(
        log.contains("TRACE") || log.contains("DEBUG"),
        "not everything is logged"
    );
    assert_eq!(memory::of_text("the log", &log, secrets), []);
    let mut places = vec![fleet.directory()];
    places.extend(more);
    let leave_out = [came_in.to_owned()];
    assert_eq!(memory::of_files(&places, &leave_out, secrets), []);
    let planted = fleet.path("working").join("core");
    std::fs::write(&planted, [&[0; 5_000], PLANTED].concat()).unwrap();
    let everything = [secrets, &[Secret::bytes("planted", PLANTED)]].concat();
    let finds = memory::of_files(&places, &leave_out, &everything);
    assert_eq!(names(&finds), BTreeSet::from(["planted"]), "{finds:#?}");
    assert_eq!(finds[0].place, planted.display().to_string());
    std::fs::remove_file(planted).unwrap();
    // That the scan reads what it is given, the very file tells that it came in.
    assert!(!memory::of_files(&[came_in], &[], secrets).is_empty());
}

/// Ends it as a fault would, where the system would leave a core if the process let it.
fn crash(server: &mut Server) {
    server.process().signal(Signal::ABORT);
    let process = server.process();
    wait_until("its end", || (!process.is_running()).then_some(()));
}

#[tokio::test(flavor = "multi_thread")]
async fn of_a_retired_key_nothing_is_left_and_a_passphrase_never_stays() {
    let Some(()) = or_skip("of_a_retired_key_nothing_is_left_and_a_passphrase_never_stays") else {
        return;
    };
    // Several: the memory of one that is not wiped may by chance be used again at once.
    let clusters = ["central", "a", "b", "c"];
    let fleet = Fleet::on_sqlite(&clusters);
    for cluster in clusters {
        let next = fleet.add_authority(cluster, Ttl::days(300));
        run(&mut fleet.ca_server(&["authority", "activate", &next]));
    }
    let opened = Opened::of(&fleet).await;
    let mut secrets = vec![
        Secret::bytes("planted", PLANTED),
        Secret::bytes("the key-encryption key", &opened.key_encryption_key),
        Secret::passphrase("the passphrase", PASSPHRASE),
        Secret::bytes("the wrapping key", &opened.wrapping_key),
    ];
    let (mut retired, mut active) = (Vec::new(), Vec::new());
    for cluster in clusters {
        retired.push(opened.key_of(&format!("{cluster}-1")).await);
        active.push(opened.key_of(&format!("{cluster}-2")).await);
    }
    secrets.extend(retired.iter().chain(&active).cloned());
    let mut server = serve(&fleet);
    issue(&fleet, &server, 20).await;
    // Keys in use are there, in the key-encryption key's company, and what opened that is not.
    let admitted = ["planted", "the key-encryption key"];
    let named = |keys: &[Secret]| keys.iter().map(|key| key.name.clone()).collect::<Vec<_>>();
    let (retired, active) = (named(&retired), named(&active));
    let in_use = admitted
        .map(str::to_owned)
        .into_iter()
        .chain(active)
        .collect::<Vec<_>>();
    check_memory(&mut server, &secrets, &[&in_use[..], &retired[..]].concat());

    for cluster in clusters {
        opened.retire(&format!("{cluster}-1")).await;
    }
    wait_until("the keys' end", || {
        let metrics = get(server.ops, "/metrics").unwrap().text();
        (!metrics.contains("state=\"retiring\"")).then_some(())
    });
    check_memory(&mut server, &secrets, &in_use);

    crash(&mut server);
    opened.store.close().await;
    check_files(
        &fleet,
        &server,
        &[],
        &fleet.path("passphrase"),
        &secrets[1..],
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn of_a_key_in_a_token_nothing_comes_into_memory() {
    const TEST: &str = "of_a_key_in_a_token_nothing_comes_into_memory";
    let (Some(()), Some(hsm)) = (or_skip(TEST), SoftHsm::or_skip(TEST)) else {
        return;
    };
    let mut fleet = Fleet::without_authorities(None, &["central"], "");
    fleet.set_environment(hsm.environment());
    fleet.configure(&hsm.token("central", PIN, "canary = \"1s\""));
    // A key whose scalar this test knows has to come from outside.
    let (signer, pkcs8) = hsm::SoftwareSigner::generate(KeyAlgorithm::EcdsaP256).unwrap();
    hsm.import("central", "brought", &pkcs8, signer.public_key().spki());
    let existing = ["--existing-key", "pkcs11:token=central;object=brought"];
    fleet.add_authority_with("central", Ttl::days(300), &existing);
    let opened = Opened::of(&fleet).await;
    run(fleet
        .ca_server(&["keys", "rekey", "--new-token"])
        .arg("pkcs11:token=central;object=installation"));
    let from = format!(
        "passphrase_file = \"{}\"",
        fleet.path("passphrase").display()
    );
    fleet.reconfigure(
        &from,
        "token = \"pkcs11:token=central;object=installation\"",
    );
    std::fs::remove_file(fleet.path("passphrase")).unwrap();

    let secrets = [
        Secret::bytes("planted", PLANTED),
        Secret::bytes("the key-encryption key", &opened.key_encryption_key),
        Secret::bytes("the PIN", PIN.as_bytes()),
        Secret::passphrase("the passphrase", PASSPHRASE),
        key("the key of central-1", &pkcs8),
    ];
    let mut server = serve(&fleet);
    issue(&fleet, &server, 50).await;
    // The PIN stays for the next login, after the token was away.
    let there = ["planted", "the key-encryption key", "the PIN"].map(str::to_owned);
    check_memory(&mut server, &secrets, &there);
    crash(&mut server);
    opened.store.close().await;
    let tokens = hsm.tokens();
    check_files(
        &fleet,
        &server,
        &[&tokens],
        &hsm.pin_file("central"),
        &secrets[1..],
    );
}
