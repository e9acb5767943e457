//! zlint and pkilint, and the one list of what we do not follow them in (`tests/lint-exceptions.toml`).

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};
use serde::Deserialize;
use serde_json::Value;

use crate::parts;

/// What a linter found in a file.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Finding {
    /// The file's name without folder.
    pub file: String,
    /// The lint.
    pub code: String,
    /// `warn`, `error`, …
    pub severity: String,
}

/// A linter.
#[derive(Clone, Debug)]
pub enum Linter {
    /// pkilint's tools: the folder of its Python.
    Pkilint(PathBuf),
    /// zlint, the sources that apply to a private CA.
    Zlint(PathBuf),
}

/// RFC 5280, and the two about elliptic curves; the rest are the rules of the public web.
const ZLINT_SOURCES: &str = "RFC5280,RFC5480,RFC8813";

/// One interpreter for all files, because its start takes most of the time.
const PKILINT: &str = r#"
import sys
from pkilint.bin import lint_crl, lint_ocsp_response, lint_pkix_cert
for file in sys.argv[1:]:
    if file.endswith(".ocsp.der"):
        lint_ocsp_response.main(["lint", "-s", "notice", "-f", "json", "--document-format", "der", file])
    elif file.endswith(".crl.pem"):
        lint_crl.main(["lint", "-t", "CRL", "-p", "PKIX", "-s", "notice", "-f", "json", file])
    else:
        lint_pkix_cert.main(["lint", "-s", "notice", "-f", "json", file])
"#;

impl Linter {
    /// Its name in the list of exceptions.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            Self::Pkilint(_) => "pkilint",
            Self::Zlint(_) => "zlint",
        }
    }

    /// Lints `files` (one certificate each, a CRL in `*.crl.pem`, an OCSP response in `*.ocsp.der`, which zlint does not
    /// read): everything from a notice up.
    ///
    /// # Errors
    /// When the linter cannot be asked, or its answer is not one per file.
    pub fn lint(&self, files: &[PathBuf]) -> Result<Vec<Finding>> {
        let mut command = match self {
            Self::Pkilint(bin) => {
                let mut command = Command::new(bin.join("python3"));
                command.args(["-c", PKILINT]);
                command
            }
            Self::Zlint(program) => {
                let mut command = Command::new(program);
                command.args(["-includeSources", ZLINT_SOURCES]);
                command
            }
        };
        let out = parts::stdout(command.args(files))?;
        let answers: Vec<Value> = serde_json::Deserializer::from_slice(&out)
            .into_iter()
            .collect::<Result<_, _>>()
            .with_context(|| String::from_utf8_lossy(&out).into_owned())?;
        ensure!(
            answers.len() == files.len(),
            "{} answers for {} files",
            answers.len(),
            files.len()
        );
        let mut findings = Vec::new();
        for (file, answer) in files.iter().zip(&answers) {
            let found = match self {
                Self::Pkilint(_) => pkilint_findings(answer),
                Self::Zlint(_) => zlint_findings(answer),
            };
            let file = file_name(file);
            findings.extend(
                found
                    .with_context(|| format!("{file}: {answer}"))?
                    .into_iter()
                    .map(|(code, severity)| Finding {
                        file: file.clone(),
                        code,
                        severity,
                    }),
            );
        }
        Ok(findings)
    }
}

fn file_name(file: &Path) -> String {
    file.file_name()
        .unwrap_or_default()
        .to_string_lossy()
        .into_owned()
}

type Findings = Option<Vec<(String, String)>>;

fn zlint_findings(answer: &Value) -> Findings {
    let lints = answer.as_object()?;
    // Guards against an answer that judged nothing.
    lints.values().find(|lint| lint["result"] == "pass")?;
    let mut findings = Vec::new();
    for (code, lint) in lints {
        let severity = lint["result"].as_str()?;
        if !matches!(severity, "pass" | "NA" | "NE") {
            findings.push((code.clone(), severity.to_owned()));
        }
    }
    Some(findings)
}

fn pkilint_findings(answer: &Value) -> Findings {
    let mut findings = Vec::new();
    for result in answer["results"].as_array()? {
        for finding in result["finding_descriptions"].as_array()? {
            let code = finding["code"].as_str()?.to_owned();
            let severity = finding["severity"].as_str()?.to_lowercase();
            findings.push((code, severity));
        }
    }
    Some(findings)
}

/// What we do not follow a linter in, and why.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Exception {
    linter: String,
    code: String,
    /// Part of the file names that it is for.
    on: String,
    /// Why.
    reason: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Exceptions {
    exception: Vec<Exception>,
}

/// Reads `tests/lint-exceptions.toml`.
///
/// # Errors
/// When it is not one, or a reason is missing.
pub fn exceptions() -> Result<Vec<Exception>> {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("lint-exceptions.toml");
    let Exceptions { exception } = toml::from_str(&std::fs::read_to_string(file)?)?;
    for each in &exception {
        ensure!(!each.reason.is_empty(), "{}: no reason", each.code);
    }
    Ok(exception)
}

impl Exception {
    /// Whether it is for CRLs and OCSP responses rather than for certificates.
    #[must_use]
    pub fn is_of_status(&self) -> bool {
        [".crl", ".ocsp"].iter().any(|kind| self.on.contains(kind))
    }
}

/// What is wrong with `findings` beside the list: findings that no exception is for, and exceptions of this linter
/// that no finding needs any more (the list only shrinks by itself).
#[must_use]
pub fn complaints(
    linter: &str,
    findings: &[Finding],
    exceptions: &[Exception],
) -> BTreeSet<String> {
    let mine = || exceptions.iter().filter(|e| e.linter == linter);
    let covers = |e: &Exception, f: &Finding| e.code == f.code && f.file.contains(&e.on);
    let unexpected = findings
        .iter()
        .filter(|f| !mine().any(|e| covers(e, f)))
        .map(|f| format!("{linter}: {} ({}) in {}", f.code, f.severity, f.file));
    let unneeded = mine()
        .filter(|e| !findings.iter().any(|f| covers(e, f)))
        .map(|e| {
            format!(
                "{linter}: the exception {} on {:?} is not needed",
                e.code, e.on
            )
        });
    unexpected.chain(unneeded).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_list_complains_of_the_new_and_of_the_old() {
        let exceptions = [Exception {
            linter: "zlint".into(),
            code: "w_known".into(),
            on: "workload".into(),
            reason: "a test".into(),
        }];
        let finding = |file: &str, code: &str| Finding {
            file: file.into(),
            code: code.into(),
            severity: "warn".into(),
        };
        let known = finding("workload.pem", "w_known");
        assert!(complaints("zlint", std::slice::from_ref(&known), &exceptions).is_empty());
        assert_eq!(complaints("zlint", &[], &exceptions).len(), 1);
        let other_file = finding("server.pem", "w_known");
        let other_code = finding("workload.pem", "e_new");
        assert_eq!(
            complaints("zlint", &[known, other_file, other_code], &exceptions).len(),
            2
        );
        assert!(complaints("pkilint", &[], &exceptions).is_empty());
    }
}
