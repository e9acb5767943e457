//! Who has the database alone changes, deletes, cuts and forges: each is found and named.

use ca_server::store::Store;
use pki::audit::{Entry, KIND_HEADS};
use pki::crypto::hex;
use sqlx::{AssertSqlSafe, Connection, PgConnection, SqliteConnection};
use tests::fleet::Root;
use tests::process::{output, run};
use tests::requests::{KeyAndRequest, create_certificate};

use super::{HERE, Installation, THERE, chain, entry};

/// Someone who has the database, and not the program.
enum Intruder {
    Postgres(Box<PgConnection>),
    Sqlite(Box<SqliteConnection>),
}

impl Intruder {
    async fn of(url: &str) -> Self {
        let mut intruder = if url.starts_with("postgres") {
            Self::Postgres(Box::new(PgConnection::connect(url).await.unwrap()))
        } else {
            Self::Sqlite(Box::new(SqliteConnection::connect(url).await.unwrap()))
        };
        for table in ["audit", "audit_head"] {
            let keep = format!("CREATE TABLE kept_{table} AS SELECT * FROM {table}");
            intruder.execute(&keep).await;
        }
        intruder
    }

    async fn execute(&mut self, statement: &str) -> u64 {
        let statement = AssertSqlSafe(statement.to_owned());
        match self {
            Self::Postgres(connection) => {
                let done = sqlx::query(statement).execute(&mut **connection).await;
                done.unwrap().rows_affected()
            }
            Self::Sqlite(connection) => {
                let done = sqlx::query(statement).execute(&mut **connection).await;
                done.unwrap().rows_affected()
            }
        }
    }

    /// Does this, which has to change something.
    async fn tamper(&mut self, statement: &str) {
        assert!(self.execute(statement).await > 0, "{statement}");
    }

    /// Puts everything back as it was.
    async fn undo(&mut self) {
        for table in ["audit", "audit_head"] {
            self.execute(&format!("DELETE FROM {table}")).await;
            self.execute(&format!("INSERT INTO {table} SELECT * FROM kept_{table}"))
                .await;
        }
    }

    /// Octets as this engine writes them.
    fn octets(&self, bytes: &[u8]) -> String {
        match self {
            Self::Postgres(_) => format!("'\\x{}'::bytea", hex(bytes)),
            Self::Sqlite(_) => format!("x'{}'", hex(bytes)),
        }
    }

    /// Puts an entry in place of the one at its position, with a hash of its own.
    async fn replace(&mut self, entry: &Entry) {
        let hash = self.octets(&entry.computed_hash());
        let Entry {
            replica,
            position,
            actor,
            ..
        } = entry;
        self.tamper(&format!(
            "UPDATE audit SET actor = '{actor}', hash = {hash} \
             WHERE replica = '{replica}' AND position = {position}"
        ))
        .await;
    }

    async fn insert(&mut self, entry: &Entry) {
        let (previous, hash) = (self.octets(&entry.previous), self.octets(&entry.hash));
        let Entry {
            replica,
            position,
            kind,
            ..
        } = entry;
        let at = entry.at.unix();
        self.tamper(&format!(
            "INSERT INTO audit VALUES ('{replica}', {position}, {at}, '{kind}', '', '', '', '', '{{}}', {previous}, {hash})"
        ))
        .await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_done_to_the_trail_is_found_on_sqlite() {
    found_and_named(Installation::on_sqlite()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_done_to_the_trail_is_found_on_postgres() {
    let test = "what_is_done_to_the_trail_is_found_on_postgres";
    if let Some(installation) = Installation::on_postgres(test) {
        found_and_named(installation).await;
    }
}

/// Two chains that know of each other, and a watermark that knows of both.
async fn furnish(installation: &Installation, store: &Store) {
    for _ in 0..3 {
        installation.act_there();
        installation.act_here();
    }
    let mut server = installation.fleet.serve();
    entry(store, |entry| {
        entry.kind == KIND_HEADS && entry.detail.contains(THERE)
    })
    .await;
    assert!(server.process().terminate());
    // What it writes at its end is remembered by the next one, which looks before anything is issued.
    let mut server = installation.fleet.serve();
    assert!(server.process().terminate());
    let remembered = std::fs::read_to_string(installation.fleet.path("watermark")).unwrap();
    assert!(remembered.contains(THERE), "{remembered}");
}

async fn found_and_named(installation: Installation) {
    let store = installation.store().await;
    furnish(&installation, &store).await;
    let (whole, said) = installation.verify(&[]);
    assert!(whole, "{said}");
    assert!(said.contains("the audit trail is whole"), "{said}");

    let here = chain(&store, HERE).await;
    let there = chain(&store, THERE).await;
    let (end, there_end) = (here.len() - 1, there.len() - 1);
    let mut intruder = Intruder::of(&installation.url).await;
    let check = |what: &str, expected: &[&str]| {
        let (whole, said) = installation.verify(&[]);
        assert!(!whole, "{what} is not found:\n{said}");
        for words in expected {
            assert!(said.contains(words), "{what}: {words:?} is not in\n{said}");
        }
    };

    intruder
        .tamper(&format!(
            "UPDATE audit SET actor = 'cli:nobody' WHERE replica = '{HERE}' AND position = 2"
        ))
        .await;
    check(
        "a changed entry",
        &[&format!("chain {HERE}, position 2: the entry was changed")],
    );
    intruder.undo().await;

    let mut posing = here[2].clone();
    posing.actor = "cli:nobody".to_owned();
    intruder.replace(&posing).await;
    check(
        "an entry with a hash of its own",
        &[&format!("chain {HERE}, position 2: the entry was replaced")],
    );
    intruder.undo().await;

    let mut posing = here[end].clone();
    posing.actor = "cli:nobody".to_owned();
    intruder.replace(&posing).await;
    check(
        "another last entry",
        &[&format!(
            "chain {HERE}, position {end}: the entry was replaced"
        )],
    );
    intruder.undo().await;

    intruder
        .tamper(&format!(
            "DELETE FROM audit WHERE replica = '{THERE}' AND position = 1"
        ))
        .await;
    check(
        "a deleted entry",
        &[&format!(
            "chain {THERE}, position 1: the entry is missing: 1 in a row"
        )],
    );
    intruder.undo().await;

    let last_but_one = end - 1;
    let cut = format!("DELETE FROM audit WHERE replica = '{HERE}' AND position > {last_but_one}");
    intruder.tamper(&cut).await;
    check(
        "a tail that is cut",
        &[&format!(
            "chain {HERE}, position {end}: the entry is missing, and all after it: the chain's head is at position {end}"
        )],
    );
    // With a head that fits, which nobody without the keys can seal.
    let hash = intruder.octets(&here[last_but_one].hash);
    intruder
        .tamper(&format!("UPDATE audit_head SET position = {last_but_one}, hash = {hash} WHERE replica = '{HERE}'"))
        .await;
    check(
        "a tail that is cut, and its head",
        &[&format!(
            "chain {HERE}, position {last_but_one}: the chain's head was not sealed by this installation"
        )],
    );
    intruder.undo().await;

    let forged = Entry {
        position: here[end].position + 1,
        previous: here[end].hash,
        actor: String::new(),
        remote: String::new(),
        rule: String::new(),
        request_id: String::new(),
        detail: "{}".to_owned(),
        ..here[end].clone()
    }
    .hashed();
    intruder.insert(&forged).await;
    let past = end + 1;
    check(
        "an entry that was put in",
        &[&format!(
            "chain {HERE}, position {past}: the entry is past the chain's head"
        )],
    );
    intruder.undo().await;

    intruder
        .tamper(&format!("DELETE FROM audit_head WHERE replica = '{THERE}'"))
        .await;
    check(
        "a deleted head",
        &[&format!(
            "chain {THERE}, position {}: the chain has entries and no head",
            there_end + 1
        )],
    );
    intruder
        .tamper(&format!("DELETE FROM audit WHERE replica = '{THERE}'"))
        .await;
    check(
        "a whole chain that is gone",
        &[
            &format!("chain {THERE}, position {there_end}: the entry is gone: {HERE}, position"),
            &format!(
                "chain {THERE}, position {there_end}: the entry is gone: store.watermark_file knows of it"
            ),
        ],
    );
    intruder.execute("DELETE FROM audit").await;
    intruder.execute("DELETE FROM audit_head").await;
    check(
        "everything that is gone",
        &["store.watermark_file knows of it"],
    );
    std::fs::rename(
        installation.fleet.path("watermark"),
        installation.fleet.path("away"),
    )
    .unwrap();
    check(
        "everything that is gone, unremembered",
        &["there is no audit trail"],
    );
    std::fs::rename(
        installation.fleet.path("away"),
        installation.fleet.path("watermark"),
    )
    .unwrap();
    intruder.undo().await;
    let (whole, said) = installation.verify(&[]);
    assert!(whole, "{said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_chain_that_has_gone_back_with_its_old_head_is_noticed() {
    let installation = Installation::on_sqlite();
    let store = installation.store().await;
    let mut server = installation.fleet.serve();
    installation.act_here();
    // Everything of this moment, seals and all.
    let mut intruder = Intruder::of(&installation.url).await;
    assert!(server.process().terminate());
    installation.act_here();
    let mut server = installation.fleet.serve();
    intruder.undo().await;
    let known = chain(&store, HERE).await.len();
    // A running server does not go on from there: what it wrote would hide what was done.
    let mut istio = server.istio().await;
    let refused = create_certificate(&mut istio, "no token", "central", "", 0).await;
    assert!(refused.is_err());
    drop(istio);
    assert!(server.process().terminate());
    let words = ["refusals of the last moments", "the chain has gone back"];
    server.log().wait_for(&words);
    assert_eq!(chain(&store, HERE).await.len(), known);

    let (whole, said) = installation.verify(&[]);
    assert!(!whole, "{said}");
    assert!(said.contains("store.watermark_file knows of it"), "{said}");
    let refused = output(&mut installation.fleet.ca_server(&["serve"]));
    let said = String::from_utf8(refused.stderr).unwrap();
    assert!(!refused.status.success());
    assert!(said.contains("the store has gone back"), "{said}");
    run(&mut installation.fleet.ca_server(&["store", "accept", "--yes"]));
    let mut server = installation.fleet.serve();
    assert!(server.process().terminate());
    let (whole, said) = installation.verify(&[]);
    assert!(whole, "{said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_put_into_the_database_is_contradicted_on_sqlite() {
    contradicted(Installation::on_sqlite()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_put_into_the_database_is_contradicted_on_postgres() {
    let test = "what_is_put_into_the_database_is_contradicted_on_postgres";
    if let Some(installation) = Installation::on_postgres(test) {
        contradicted(installation).await;
    }
}

/// Rows that nobody put there through the program, and records that are not what was signed.
async fn contradicted(installation: Installation) {
    let fleet = &installation.fleet;
    let mut server = fleet.serve();
    let mut istio = server.istio().await;
    for account in ["bar", "baz"] {
        let token = fleet.clusters[0].tokens.token("foo", account);
        let id = format!("spiffe://cluster.local/ns/foo/sa/{account}");
        let csr = KeyAndRequest::for_uris(&[&id]).pem();
        create_certificate(&mut istio, &token, "central", &csr, 0)
            .await
            .unwrap();
    }
    let bar = "spiffe://cluster.local/ns/foo/sa/bar";
    let revoke = [
        "revoke",
        "--spiffe-id",
        bar,
        "--reason",
        "keyCompromise",
        "--yes",
    ];
    run(&mut fleet.ca_server(&revoke));
    drop(istio);
    assert!(server.process().terminate());
    let (whole, said) = installation.verify(&["--records"]);
    assert!(whole, "{said}");

    let mut intruder = Intruder::of(&installation.url).await;
    let check = |expected: &str, more: &[&str]| {
        let (whole, said) = installation.verify(more);
        assert!(!whole, "{expected:?} is not found:\n{said}");
        assert!(said.contains(expected), "{expected:?} is not in\n{said}");
    };
    // A revoked certificate is good again.
    intruder
        .execute("CREATE TABLE kept_revocation AS SELECT * FROM revocation")
        .await;
    intruder.tamper("DELETE FROM revocation").await;
    check(": it was revoked (", &[]);
    intruder
        .tamper("INSERT INTO revocation SELECT * FROM kept_revocation")
        .await;

    // The certificate of one record in another's.
    let der = |account: &str| {
        format!(
            "(SELECT c.der FROM certificate c JOIN certificate_name n ON n.serial = c.serial \
             WHERE n.name = 'URI:spiffe://cluster.local/ns/foo/sa/{account}')"
        )
    };
    intruder
        .execute("CREATE TABLE kept_certificate AS SELECT serial, der FROM certificate")
        .await;
    intruder
        .tamper(&format!(
            "UPDATE certificate SET der = {} WHERE caller = 'sa:foo/baz'",
            der("bar")
        ))
        .await;
    check(
        "the record is not of the certificate that is kept with it",
        &["--records"],
    );
    intruder
        .tamper(
            "UPDATE certificate SET der = (SELECT k.der FROM kept_certificate k \
             WHERE k.serial = certificate.serial)",
        )
        .await;
    intruder
        .tamper("UPDATE certificate SET caller = 'sa:foo/nobody' WHERE caller = 'sa:foo/baz'")
        .await;
    check(
        "its entry in the issuance log is another one",
        &["--records"],
    );
    intruder
        .tamper("UPDATE certificate SET caller = 'sa:foo/baz' WHERE caller = 'sa:foo/nobody'")
        .await;
    intruder
        .tamper("UPDATE certificate SET cluster = 'edge' WHERE caller = 'sa:foo/baz'")
        .await;
    check("its cluster is not its authority's", &["--records"]);
    intruder
        .tamper("UPDATE certificate SET cluster = 'central' WHERE caller = 'sa:foo/baz'")
        .await;

    // More than anybody allowed.
    let swap = |from: &str, to: &str| {
        format!("UPDATE cluster SET definition = replace(definition, '\"{from}\"', '\"{to}\"')")
    };
    intruder.tamper(&swap("7d", "9d")).await;
    check("cluster central: nobody put it in force as it is", &[]);
    intruder.tamper(&swap("9d", "7d")).await;

    // An authority of somebody's own, and a root to believe in.
    let stranger = Root::new("Stranger");
    let der = intruder.octets(stranger.certificate().der());
    let mut chain = u32::try_from(stranger.certificate().der().len())
        .unwrap()
        .to_be_bytes()
        .to_vec();
    chain.extend_from_slice(stranger.certificate().der());
    let chain = intruder.octets(&chain);
    intruder
        .tamper(&format!(
            "INSERT INTO authority (id, cluster, generation, state, subject, spki, request, chain, created_at, version) \
             VALUES ('central-9', 'central', 9, 'retiring', 'x', {der}, {der}, {chain}, 0, 1)"
        ))
        .await;
    check("authority central-9: nobody imported its certificate", &[]);
    intruder
        .tamper("DELETE FROM authority WHERE id = 'central-9'")
        .await;
    let digest = intruder.octets(&pki::crypto::sha256(stranger.certificate().der()));
    intruder
        .tamper(&format!(
            "INSERT INTO bundle_root VALUES ('cluster.local', {digest}, {der}, 0)"
        ))
        .await;
    check(
        "the bundle of cluster.local: nobody had it believe in the root",
        &[],
    );
    intruder
        .tamper("DELETE FROM bundle_root WHERE added_at = 0")
        .await;
    intruder
        .tamper("UPDATE authority SET state = 'retiring' WHERE id = 'central-1'")
        .await;
    let (whole, said) = installation.verify(&["--records"]);
    assert!(
        whole,
        "an authority's step on its way is no contradiction:\n{said}"
    );
}
