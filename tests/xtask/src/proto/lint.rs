//! How contracts are written: what `buf lint` calls STANDARD and COMMENTS, as far as it matters here.

use std::collections::BTreeMap;

use prost_types::source_code_info::Location;
use prost_types::{
    DescriptorProto, EnumDescriptorProto, FileDescriptorProto, ServiceDescriptorProto,
};

/// Contracts of others that are restated here: their names are as they are, and have to have comments alone.
const RESTATED: [&str; 1] = ["istio.v1.auth"];

/// Field numbers of descriptor.proto, of which a location's path is made.
mod at {
    pub(super) const MESSAGES: i32 = 4;
    pub(super) const ENUMS: i32 = 5;
    pub(super) const SERVICES: i32 = 6;
    pub(super) const MESSAGE_FIELDS: i32 = 2;
    pub(super) const MESSAGE_MESSAGES: i32 = 3;
    pub(super) const MESSAGE_ENUMS: i32 = 4;
    pub(super) const MESSAGE_ONEOFS: i32 = 8;
    pub(super) const ENUM_VALUES: i32 = 2;
    pub(super) const SERVICE_METHODS: i32 = 2;
}

/// What is not written as it should be.
pub(crate) fn faults(files: &[FileDescriptorProto]) -> Vec<String> {
    let mut faults = Vec::new();
    // Each message is asked or answered with by one method at most.
    let mut used: BTreeMap<String, String> = BTreeMap::new();
    for file in files {
        let locations = file.source_code_info.iter().flat_map(|info| &info.location);
        let mut lint = Lint {
            file: file.name(),
            comments: locations
                .map(|location| (location.path.as_slice(), location))
                .collect(),
            is_ours: !RESTATED.contains(&file.package()),
            faults: &mut faults,
        };
        lint.file(file);
        for (at, message) in numbered(&file.message_type) {
            lint.message(&[at::MESSAGES, at], "", message);
        }
        for (at, one) in numbered(&file.enum_type) {
            lint.one_enum(&[at::ENUMS, at], "", one);
        }
        for (at, service) in numbered(&file.service) {
            lint.service(&[at::SERVICES, at], service, &mut used);
        }
    }
    faults
}

fn numbered<T>(list: &[T]) -> impl Iterator<Item = (i32, &T)> {
    (0..).zip(list)
}

struct Lint<'a> {
    file: &'a str,
    comments: BTreeMap<&'a [i32], &'a Location>,
    is_ours: bool,
    faults: &'a mut Vec<String>,
}

impl Lint<'_> {
    fn fault(&mut self, rule: &str, what: &str, why: &str) {
        let file = self.file;
        self.faults.push(format!("{file}: {what}: {why} ({rule})"));
    }

    /// A rule about names, which others' contracts do not follow.
    fn name(&mut self, rule: &str, what: &str, holds: bool, why: &str) {
        if self.is_ours && !holds {
            self.fault(rule, what, why);
        }
    }

    fn comment(&mut self, rule: &str, path: &[i32], what: &str) -> String {
        let location = self.comments.get(path);
        let text = location.map(|location| location.leading_comments().trim());
        let text = text.unwrap_or_default().to_owned();
        if text.is_empty() {
            self.fault(rule, what, "it has no comment above it");
        }
        text
    }

    fn file(&mut self, file: &FileDescriptorProto) {
        let package = file.package();
        if package.is_empty() {
            return self.fault("PACKAGE_DEFINED", "package", "there is none");
        }
        let name = file.name();
        let (folder, base) = name.rsplit_once('/').unwrap_or(("", name));
        if folder.replace('/', ".") != package {
            let why = format!("its file is not in {}/", package.replace('.', "/"));
            self.fault("PACKAGE_DIRECTORY_MATCH", package, &why);
        }
        let version = package.rsplit('.').next().unwrap_or_default();
        let why = "its last part is no version, like v1 or v1beta2";
        self.name("PACKAGE_VERSION_SUFFIX", package, is_version(version), why);
        let lower = package.split('.').all(is_lower_snake);
        self.name(
            "PACKAGE_LOWER_SNAKE_CASE",
            package,
            lower,
            "it is not lower_snake.case",
        );
        let stem = base.trim_end_matches(".proto");
        self.name(
            "FILE_LOWER_SNAKE_CASE",
            name,
            is_lower_snake(stem),
            "it is not lower_snake_case",
        );
        if !(file.public_dependency.is_empty() && file.weak_dependency.is_empty()) {
            self.fault(
                "IMPORT_NO_PUBLIC",
                name,
                "imports are neither public nor weak",
            );
        }
    }

    fn message(&mut self, path: &[i32], outer: &str, message: &DescriptorProto) {
        // A map's entries are nobody's words.
        if message
            .options
            .as_ref()
            .is_some_and(|options| options.map_entry())
        {
            return;
        }
        let name = format!("{outer}{}", message.name());
        let text = self.comment("COMMENT_MESSAGE", path, &name);
        self.next_number(&name, &text, message);
        self.name(
            "MESSAGE_PASCAL_CASE",
            &name,
            is_pascal(message.name()),
            "it is not PascalCase",
        );
        for (at, field) in numbered(&message.field) {
            let what = format!("{name}.{}", field.name());
            self.comment(
                "COMMENT_FIELD",
                &[path, &[at::MESSAGE_FIELDS, at]].concat(),
                &what,
            );
            let lower = is_lower_snake(field.name());
            self.name(
                "FIELD_LOWER_SNAKE_CASE",
                &what,
                lower,
                "it is not lower_snake_case",
            );
        }
        for (at, oneof) in numbered(&message.oneof_decl) {
            let mut fields = message.field.iter();
            if fields.any(|field| field.oneof_index == Some(at) && field.proto3_optional()) {
                continue;
            }
            let what = format!("{name}.{}", oneof.name());
            self.comment(
                "COMMENT_ONEOF",
                &[path, &[at::MESSAGE_ONEOFS, at]].concat(),
                &what,
            );
            let lower = is_lower_snake(oneof.name());
            self.name(
                "ONEOF_LOWER_SNAKE_CASE",
                &what,
                lower,
                "it is not lower_snake_case",
            );
        }
        let inner = format!("{name}.");
        for (at, nested) in numbered(&message.nested_type) {
            self.message(
                &[path, &[at::MESSAGE_MESSAGES, at]].concat(),
                &inner,
                nested,
            );
        }
        for (at, one) in numbered(&message.enum_type) {
            self.one_enum(&[path, &[at::MESSAGE_ENUMS, at]].concat(), &inner, one);
        }
    }

    /// Where a comment says which number is free, it is.
    fn next_number(&mut self, name: &str, text: &str, message: &DescriptorProto) {
        let Some((_, rest)) = text.split_once("Next unused field number: ") else {
            return;
        };
        let said = rest.split(|c: char| !c.is_ascii_digit()).next();
        let used = message.field.iter().map(|field| field.number() + 1);
        let reserved = message.reserved_range.iter().map(|range| range.end());
        let next = used.chain(reserved).max().unwrap_or(1);
        if said.and_then(|said| said.parse().ok()) != Some(next) {
            let why = format!("its next unused field number is {next}");
            self.fault("COMMENT_NEXT_NUMBER", name, &why);
        }
    }

    fn one_enum(&mut self, path: &[i32], outer: &str, one: &EnumDescriptorProto) {
        let name = format!("{outer}{}", one.name());
        self.comment("COMMENT_ENUM", path, &name);
        self.name(
            "ENUM_PASCAL_CASE",
            &name,
            is_pascal(one.name()),
            "it is not PascalCase",
        );
        let alias = one
            .options
            .as_ref()
            .is_some_and(|options| options.allow_alias());
        self.name(
            "ENUM_NO_ALLOW_ALIAS",
            &name,
            !alias,
            "two of its values have one number",
        );
        let prefix = format!("{}_", upper_snake(one.name()));
        for (at, value) in numbered(&one.value) {
            let what = format!("{name}.{}", value.name());
            self.comment(
                "COMMENT_ENUM_VALUE",
                &[path, &[at::ENUM_VALUES, at]].concat(),
                &what,
            );
            let upper = is_upper_snake(value.name());
            self.name(
                "ENUM_VALUE_UPPER_SNAKE_CASE",
                &what,
                upper,
                "it is not UPPER_SNAKE_CASE",
            );
            let why = format!("it does not begin with {prefix}");
            let begins = value.name().starts_with(&prefix);
            self.name("ENUM_VALUE_PREFIX", &what, begins, &why);
            let ends = value.number() != 0 || value.name().ends_with("_UNSPECIFIED");
            self.name(
                "ENUM_ZERO_VALUE_SUFFIX",
                &what,
                ends,
                "zero is _UNSPECIFIED",
            );
        }
    }

    fn service(
        &mut self,
        path: &[i32],
        service: &ServiceDescriptorProto,
        used: &mut BTreeMap<String, String>,
    ) {
        let name = service.name();
        self.comment("COMMENT_SERVICE", path, name);
        self.name(
            "SERVICE_PASCAL_CASE",
            name,
            is_pascal(name),
            "it is not PascalCase",
        );
        let ends = name.ends_with("Service");
        self.name("SERVICE_SUFFIX", name, ends, "it does not end in Service");
        for (at, method) in numbered(&service.method) {
            let what = format!("{name}.{}", method.name());
            self.comment(
                "COMMENT_RPC",
                &[path, &[at::SERVICE_METHODS, at]].concat(),
                &what,
            );
            let pascal = is_pascal(method.name());
            self.name("RPC_PASCAL_CASE", &what, pascal, "it is not PascalCase");
            for (rule, ending, message) in [
                ("RPC_REQUEST_STANDARD_NAME", "Request", method.input_type()),
                (
                    "RPC_RESPONSE_STANDARD_NAME",
                    "Response",
                    method.output_type(),
                ),
            ] {
                let last = message.rsplit('.').next().unwrap_or_default();
                let expected = format!("{}{ending}", method.name());
                let standard = last == expected || last == format!("{name}{expected}");
                let why = format!("its message is {last}, and not {expected}");
                self.name(rule, &what, standard, &why);
                if let Some(other) = used.insert(message.to_owned(), what.clone()) {
                    let why = format!("{last} is also a message of {other}");
                    self.name("RPC_REQUEST_RESPONSE_UNIQUE", &what, false, &why);
                }
            }
        }
    }
}

/// `v1`, `v1alpha`, `v1beta2`.
fn is_version(text: &str) -> bool {
    let number = |text: &str| !text.starts_with('0') && text.parse::<u32>().is_ok();
    let Some(rest) = text.strip_prefix('v') else {
        return false;
    };
    let Some(at) = rest.find(|c: char| !c.is_ascii_digit()) else {
        return number(rest);
    };
    let (major, stage) = rest.split_at(at);
    let stage = stage
        .strip_prefix("alpha")
        .or_else(|| stage.strip_prefix("beta"));
    number(major) && stage.is_some_and(|minor| minor.is_empty() || number(minor))
}

fn is_lower_snake(text: &str) -> bool {
    let part = |part: &str| {
        !part.is_empty()
            && part
                .bytes()
                .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit())
    };
    text.starts_with(|c: char| c.is_ascii_lowercase()) && text.split('_').all(part)
}

fn is_upper_snake(text: &str) -> bool {
    is_lower_snake(&text.to_ascii_lowercase()) && text.to_ascii_uppercase() == text
}

fn is_pascal(text: &str) -> bool {
    text.starts_with(|c: char| c.is_ascii_uppercase())
        && text.bytes().all(|b| b.is_ascii_alphanumeric())
}

/// `TrustDomain` as `TRUST_DOMAIN`.
fn upper_snake(text: &str) -> String {
    let mut out = String::new();
    let mut before = '_';
    for c in text.chars() {
        if c.is_ascii_uppercase() && before.is_ascii_lowercase() {
            out.push('_');
        }
        out.push(c.to_ascii_uppercase());
        before = c;
    }
    out
}

#[cfg(test)]
mod tests {
    use super::super::tests::compiled;
    use super::*;

    const PATH: &str = "a/b_c/v1/things.proto";
    const GOOD: &str = r#"syntax = "proto3";
package a.b_c.v1;
import "google/protobuf/duration.proto";
// Things.
service ThingService {
  // Gets one.
  rpc Get(GetRequest) returns (GetResponse);
  // Puts one.
  rpc Put(ThingServicePutRequest) returns (stream PutResponse);
}
// What to get. Next unused field number: 9.
message GetRequest {
  reserved 7 to 8;
  // Its id.
  string thing_id = 1;
  // Its size.
  optional int32 size = 2;
  // By name.
  map<string, string> labels_2 = 3;
  // Which.
  oneof which_one {
    // This.
    bool a = 4;
    // Or that.
    google.protobuf.Duration b = 5;
  }
  // Inner.
  message Inner {}
}
// A thing.
message GetResponse {}
// A thing.
message ThingServicePutRequest {}
// Nothing.
message PutResponse {}
// Where it stands.
enum ThingState {
  // Not said.
  THING_STATE_UNSPECIFIED = 0;
  // Good.
  THING_STATE_GOOD = 1;
}
"#;

    fn of(path: &str, text: &str) -> Vec<String> {
        faults(&compiled(path, text))
    }

    #[test]
    fn each_rule_finds_what_it_is_for() {
        assert_eq!(of(PATH, GOOD), Vec::<String>::new());
        for (from, to, rule) in [
            ("package a.b_c.v1;\n", "", "PACKAGE_DEFINED"),
            (
                "package a.b_c.v1;",
                "package a.b.v1;",
                "PACKAGE_DIRECTORY_MATCH",
            ),
            ("import \"", "import public \"", "IMPORT_NO_PUBLIC"),
            ("// Things.\n", "", "COMMENT_SERVICE"),
            ("  // Gets one.\n", "", "COMMENT_RPC"),
            (
                "// A thing.\nmessage GetR",
                "message GetR",
                "COMMENT_MESSAGE",
            ),
            ("  // Its id.\n", "", "COMMENT_FIELD"),
            ("    // Or that.\n", "", "COMMENT_FIELD"),
            ("  // Which.\n", "", "COMMENT_ONEOF"),
            ("  // Inner.\n", "", "COMMENT_MESSAGE"),
            ("// Where it stands.\n", "", "COMMENT_ENUM"),
            ("  // Good.\n", "", "COMMENT_ENUM_VALUE"),
            ("number: 9", "number: 6", "COMMENT_NEXT_NUMBER"),
            ("  reserved 7 to 8;\n", "", "COMMENT_NEXT_NUMBER"),
            ("message Inner", "message inner", "MESSAGE_PASCAL_CASE"),
            ("thing_id", "thingId", "FIELD_LOWER_SNAKE_CASE"),
            ("which_one", "whichOne", "ONEOF_LOWER_SNAKE_CASE"),
            ("ThingState", "Thing_State", "ENUM_PASCAL_CASE"),
            (
                "  THING_STATE_GOOD = 1;",
                "  THING_STATE_Good = 1;",
                "ENUM_VALUE_UPPER_SNAKE_CASE",
            ),
            (
                "  THING_STATE_GOOD = 1;",
                "  GOOD = 1;",
                "ENUM_VALUE_PREFIX",
            ),
            (
                "STATE_UNSPECIFIED",
                "STATE_UNKNOWN",
                "ENUM_ZERO_VALUE_SUFFIX",
            ),
            (
                "  // Not said.\n",
                "  option allow_alias = true;\n  // Same.\n  THING_STATE_B_UNSPECIFIED = 0;\n  // Not said.\n",
                "ENUM_NO_ALLOW_ALIAS",
            ),
            ("service ThingService", "service Things", "SERVICE_SUFFIX"),
            (
                "service ThingService",
                "service thingService",
                "SERVICE_PASCAL_CASE",
            ),
            ("rpc Get(", "rpc get(", "RPC_PASCAL_CASE"),
            (
                "rpc Get(GetRequest)",
                "rpc Get(GetRequest.Inner)",
                "RPC_REQUEST_STANDARD_NAME",
            ),
            (
                "returns (GetResponse)",
                "returns (GetRequest.Inner)",
                "RPC_RESPONSE_STANDARD_NAME",
            ),
            (
                "rpc Put(ThingServicePutRequest)",
                "rpc Put(GetRequest)",
                "RPC_REQUEST_RESPONSE_UNIQUE",
            ),
        ] {
            assert!(GOOD.contains(from), "{from}");
            let found = of(PATH, &GOOD.replace(from, to));
            let is_found = found
                .iter()
                .any(|fault| fault.ends_with(&format!("({rule})")));
            assert!(
                is_found,
                "{from:?} -> {to:?}: expected {rule}, found {found:?}"
            );
        }
        for (package, path, rule) in [
            ("a.things", "a/things/x.proto", "PACKAGE_VERSION_SUFFIX"),
            ("a.v0", "a/v0/x.proto", "PACKAGE_VERSION_SUFFIX"),
            ("a.version1", "a/version1/x.proto", "PACKAGE_VERSION_SUFFIX"),
            (
                "a.Things.v1",
                "a/Things/v1/x.proto",
                "PACKAGE_LOWER_SNAKE_CASE",
            ),
            ("a.v1", "a/v1/someThing.proto", "FILE_LOWER_SNAKE_CASE"),
            ("a.v1", "x.proto", "PACKAGE_DIRECTORY_MATCH"),
        ] {
            let found = of(path, &GOOD.replace("a.b_c.v1", package));
            assert_eq!(found.len(), 1, "{package} {path}: {found:?}");
            assert!(found[0].ends_with(&format!("({rule})")), "{found:?}");
        }
        for package in ["a.v1beta", "a.v2alpha3", "a.v10"] {
            let path = format!("{}/x.proto", package.replace('.', "/"));
            assert_eq!(
                of(&path, &GOOD.replace("a.b_c.v1", package)),
                Vec::<String>::new()
            );
        }
    }

    #[test]
    fn others_names_are_as_they_are_and_explained_all_the_same() {
        let theirs = "syntax = \"proto3\"; package istio.v1.auth;\n// S.\nservice Odd { // No.\nrpc get(m) returns (m); }\n// M.\nmessage m {}\n";
        let found = of("istio/v1/auth/ca.proto", theirs);
        assert_eq!(
            found,
            ["istio/v1/auth/ca.proto: Odd.get: it has no comment above it (COMMENT_RPC)"]
        );
    }
}
