//! Istio's real agent gets its certificates here: as files and over SDS, with either kind of key, again and again, and
//! after a bad token.

#![expect(clippy::unwrap_used, reason = "what fails here is a failed test")]

use std::time::{Duration, Instant};

use pki::key::KeyAlgorithm;
use serde_json::json;
use tests::envoy::{Envoy, envoy_or_skip};
use tests::fleet::{Fleet, Server};
use tests::istio::{Agent, AgentKey, Agents, Delivery, Workload};

const FILES: Workload<'_> = Workload {
    cluster: 0,
    account: "bar",
    key: AgentKey::Ecdsa,
    delivery: Delivery::Files,
};

fn start(lifetimes: &str) -> (Fleet, Server) {
    // The agent's own name for a cluster that has none.
    let fleet = Fleet::build(None, &["Kubernetes"], lifetimes);
    let server = fleet.serve();
    (fleet, server)
}

fn gets_files(agents: &Agents, key: AgentKey, algorithm: KeyAlgorithm) {
    let (fleet, server) = start("");
    let agent = agents.start(&fleet, &server, &Workload { key, ..FILES });
    let identity = agent.identity();
    identity.check(&fleet, "bar");
    assert_eq!(identity.leaf().public_key().unwrap().algorithm(), algorithm);
}

#[test]
fn an_agent_gets_a_p256_certificate_as_files() {
    let Some(agents) = Agents::or_skip("an_agent_gets_a_p256_certificate_as_files") else {
        return;
    };
    gets_files(&agents, AgentKey::Ecdsa, KeyAlgorithm::EcdsaP256);
}

#[test]
fn an_agent_gets_a_certificate_for_its_default_rsa_key_as_files() {
    let test = "an_agent_gets_a_certificate_for_its_default_rsa_key_as_files";
    let Some(agents) = Agents::or_skip(test) else {
        return;
    };
    gets_files(&agents, AgentKey::Default, KeyAlgorithm::Rsa { bits: 2048 });
}

#[test]
fn an_agent_replaces_its_certificate_at_half_its_life() {
    let Some(agents) = Agents::or_skip("an_agent_replaces_its_certificate_at_half_its_life") else {
        return;
    };
    // It asks for a day; the cluster's longest life is what it gets.
    let (fleet, server) = start("default_ttl = \"8s\"\nmax_ttl = \"8s\"");
    let agent = agents.start(&fleet, &server, &FILES);
    let mut current = agent.identity();
    current.check(&fleet, "bar");
    for _ in 0..3 {
        let seen = Instant::now();
        let next = agent.identity_after(&current);
        let lived = seen.elapsed();
        next.check(&fleet, "bar");
        assert_ne!(next.leaf().spki(), current.leaf().spki(), "a new key");
        // Half of 8 s; less the second in which the certificate began, more what a busy machine takes.
        assert!(
            (Duration::from_millis(2500)..Duration::from_secs(7)).contains(&lived),
            "it lived {lived:?}"
        );
        current = next;
    }
    assert_eq!(server.log().count("call refused"), 0);
}

#[test]
fn an_agent_serves_and_renews_over_sds_what_it_got_for_its_rsa_key() {
    let test = "an_agent_serves_and_renews_over_sds_what_it_got_for_its_rsa_key";
    serves_over_sds(test, AgentKey::Default, KeyAlgorithm::Rsa { bits: 2048 });
}

#[test]
fn an_agent_serves_and_renews_over_sds_what_it_got_for_its_p256_key() {
    let test = "an_agent_serves_and_renews_over_sds_what_it_got_for_its_p256_key";
    serves_over_sds(test, AgentKey::Ecdsa, KeyAlgorithm::EcdsaP256);
}

fn serves_over_sds(test: &str, key: AgentKey, algorithm: KeyAlgorithm) {
    let (Some(agents), Some(envoy)) = (Agents::or_skip(test), envoy_or_skip(test)) else {
        return;
    };
    let (fleet, server) = start("default_ttl = \"8s\"\nmax_ttl = \"8s\"");
    let workload = Workload {
        key,
        delivery: Delivery::Sds,
        ..FILES
    };
    let agent = agents.start(&fleet, &server, &workload);
    let peer = "spiffe://cluster.local/ns/foo/sa/client";
    let envoy = Envoy::server(&envoy, &agent.sds_socket(), peer);
    let mut current = envoy.identity();
    for _ in 0..2 {
        current.check(&fleet, "bar");
        assert_eq!(current.leaf().public_key().unwrap().algorithm(), algorithm);
        let next = envoy.identity_after(&current);
        assert_ne!(next.leaf().spki(), current.leaf().spki(), "a new key");
        current = next;
    }
    current.check(&fleet, "bar");
    assert_eq!(
        envoy.stat("update_rejected"),
        0,
        "Envoy takes what it is sent"
    );
}

#[test]
fn an_agent_with_a_bad_token_goes_on_asking_and_succeeds_once_the_token_is_good() {
    let test = "an_agent_with_a_bad_token_goes_on_asking_and_succeeds_once_the_token_is_good";
    let Some(agents) = Agents::or_skip(test) else {
        return;
    };
    let (fleet, server) = start("");
    let tokens = &fleet.clusters[0].tokens;
    let mut claims = tokens.claims("foo", "bar");
    claims["aud"] = json!(["another-service"]);
    let token = tokens.sign(&claims);
    let mut agent = agents.start_with_token(&fleet, &server, &FILES, &token);
    wait_for_refusals(&server, &agent, 2);
    assert!(!agent.file("cert-chain.pem").exists());
    assert_eq!(fleet.records().len(), 0);
    agent.replace_token(&tokens.token("foo", "bar"));
    agent.identity().check(&fleet, "bar");
    assert!(agent.is_running());
}

/// Each refusal is one line that says why, and the agent is told the reason too.
fn wait_for_refusals(server: &Server, agent: &Agent, refusals: usize) {
    agent.log().wait_for(&["Unauthenticated", "audience"]);
    let refused = || {
        let lines = server.log().lines();
        let refused = lines.iter().filter(|line| line.contains("call refused"));
        refused.filter(|line| line.contains("audience")).count()
    };
    tests::istio::wait_until("more refusals", || (refused() >= refusals).then_some(()));
    assert_eq!(refused(), server.log().count("call refused"));
}
