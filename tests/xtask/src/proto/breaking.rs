//! What of a contract may change: nothing that a client was compiled against, on the wire, in JSON or in code.

use std::collections::BTreeMap;

use super::snapshot::{Enum, Field, Message, Method, Package, Reserved};

type Packages = BTreeMap<String, Package>;

/// What `now` breaks of what was promised `before`.
pub(crate) fn faults(before: &Packages, now: &Packages) -> Vec<String> {
    let mut faults = Faults(Vec::new());
    for (name, old) in before {
        match now.get(name) {
            None => faults.add("PACKAGE_NO_DELETE", name, "the package is gone"),
            Some(new) => faults.package(name, old, new),
        }
    }
    faults.0
}

/// What is new since `before`.
pub(crate) fn additions(before: &Packages, now: &Packages) -> Vec<String> {
    let nothing = Package::default();
    let mut found = Vec::new();
    for (name, new) in now {
        let old = before.get(name).unwrap_or(&nothing);
        for (service, methods) in &new.services {
            for method in methods.keys() {
                let known = old.services.get(service);
                if !known.is_some_and(|known| known.contains_key(method)) {
                    found.push(format!("{name}.{service}.{method}"));
                }
            }
        }
        for (message, new) in &new.messages {
            let known = old.messages.get(message);
            if known.is_none() {
                found.push(format!("{name}.{message}"));
            }
            for (number, field) in &new.fields {
                if !known.is_some_and(|known| known.fields.contains_key(number)) {
                    found.push(format!("{name}.{message}.{} = {number}", field.name));
                }
            }
        }
        for (one, new) in &new.enums {
            let known = old.enums.get(one);
            for (number, names) in &new.values {
                if !known.is_some_and(|known| known.values.contains_key(number)) {
                    found.push(format!("{name}.{one}.{} = {number}", names.join(" = ")));
                }
            }
        }
    }
    found
}

struct Faults(Vec<String>);

impl Faults {
    fn add(&mut self, rule: &str, what: &str, why: &str) {
        self.0.push(format!("{what}: {why} ({rule})"));
    }

    /// Notes that a promised value is another one now.
    fn same<T>(&mut self, rule: &str, what: &str, old: &T, new: &T)
    where
        T: PartialEq + std::fmt::Display + ?Sized,
    {
        if old != new {
            self.add(rule, what, &format!("it was {old}, and is {new}"));
        }
    }

    fn package(&mut self, name: &str, old: &Package, new: &Package) {
        for (service, methods) in &old.services {
            let what = format!("{name}.{service}");
            match new.services.get(service) {
                None => self.add("SERVICE_NO_DELETE", &what, "the service is gone"),
                Some(now) => self.service(&what, methods, now),
            }
        }
        for (message, old) in &old.messages {
            let what = format!("{name}.{message}");
            match new.messages.get(message) {
                None => self.add("MESSAGE_NO_DELETE", &what, "the message is gone"),
                Some(new) => self.message(&what, old, new),
            }
        }
        for (one, old) in &old.enums {
            let what = format!("{name}.{one}");
            match new.enums.get(one) {
                None => self.add("ENUM_NO_DELETE", &what, "the enum is gone"),
                Some(new) => self.one_enum(&what, old, new),
            }
        }
    }

    fn service(
        &mut self,
        name: &str,
        old: &BTreeMap<String, Method>,
        new: &BTreeMap<String, Method>,
    ) {
        for (method, old) in old {
            let what = format!("{name}.{method}");
            let Some(new) = new.get(method) else {
                self.add("RPC_NO_DELETE", &what, "the method is gone");
                continue;
            };
            self.same("RPC_SAME_REQUEST_TYPE", &what, &old.request, &new.request);
            self.same(
                "RPC_SAME_RESPONSE_TYPE",
                &what,
                &old.response,
                &new.response,
            );
            let streams = |streams: bool| if streams { "a stream" } else { "one message" };
            let (before, now) = (streams(old.streams_requests), streams(new.streams_requests));
            self.same("RPC_SAME_CLIENT_STREAMING", &what, before, now);
            let (before, now) = (
                streams(old.streams_responses),
                streams(new.streams_responses),
            );
            self.same("RPC_SAME_SERVER_STREAMING", &what, before, now);
        }
    }

    fn message(&mut self, name: &str, old: &Message, new: &Message) {
        for (number, was) in &old.fields {
            let what = format!("{name}.{}", was.name);
            let moved = new.fields.iter().find(|(_, field)| field.name == was.name);
            match (new.fields.get(number), moved) {
                (Some(is), _) if is.name == was.name => self.field(&what, was, is),
                (_, Some((elsewhere, _))) => {
                    self.same("FIELD_SAME_NUMBER", &what, number, elsewhere);
                }
                (Some(is), None) => {
                    self.same("FIELD_SAME_NAME", &what, &was.name, &is.name);
                    self.field(&what, was, is);
                }
                // Reserving its number keeps the wire safe, and breaks who was compiled against it all the same.
                (None, None) => self.add("FIELD_NO_DELETE", &what, "the field is gone"),
            }
        }
        self.reserved(name, &old.reserved, &new.reserved);
    }

    fn field(&mut self, what: &str, was: &Field, is: &Field) {
        let oneof = |field: &Field| field.oneof.clone().unwrap_or_else(|| "in none".to_owned());
        self.same("FIELD_SAME_TYPE", what, &was.r#type, &is.r#type);
        self.same("FIELD_SAME_CARDINALITY", what, &was.count, &is.count);
        self.same("FIELD_SAME_ONEOF", what, &oneof(was), &oneof(is));
        if was.name == is.name {
            self.same("FIELD_SAME_JSON_NAME", what, &was.json, &is.json);
        }
    }

    fn one_enum(&mut self, name: &str, old: &Enum, new: &Enum) {
        for (number, names) in &old.values {
            for value in names {
                let what = format!("{name}.{value}");
                let moved = new.values.iter().find(|(_, names)| names.contains(value));
                match (new.values.get(number), moved) {
                    (Some(now), _) if now.contains(value) => {}
                    (_, Some((elsewhere, _))) => {
                        self.same("ENUM_VALUE_SAME_NUMBER", &what, number, elsewhere);
                    }
                    (Some(now), None) => {
                        self.same("ENUM_VALUE_SAME_NAME", &what, value, &now.join(", "));
                    }
                    (None, None) => self.add("ENUM_VALUE_NO_DELETE", &what, "the value is gone"),
                }
            }
        }
        self.reserved(name, &old.reserved, &new.reserved);
    }

    /// What was reserved stays so: a number that had a meaning gets no other.
    fn reserved(&mut self, name: &str, old: &Reserved, new: &Reserved) {
        for (first, last) in &old.numbers {
            let kept = (*first..=*last).all(|number| {
                let mut ranges = new.numbers.iter();
                ranges.any(|(first, last)| (first..=last).contains(&&number))
            });
            if !kept {
                let why = format!("{first} to {last} were reserved");
                self.add("RESERVED_NO_DELETE", name, &why);
            }
        }
        for reserved in &old.names {
            if !new.names.contains(reserved) {
                let why = format!("{reserved:?} was reserved");
                self.add("RESERVED_NO_DELETE", name, &why);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::snapshot::packages;
    use super::super::tests::compiled;
    use super::*;

    const PROMISED: &str = r#"syntax = "proto3";
package a.v1;
import "google/protobuf/duration.proto";
service Things {
  rpc Get(GetRequest) returns (GetResponse);
  rpc List(GetRequest) returns (GetResponse);
}
message GetRequest {
  reserved 8 to 9;
  reserved "gone";
  string id = 1;
  int32 size = 2;
  optional string filter = 3;
  oneof which { bool a = 4; bool b = 5; }
}
message GetResponse {
  repeated string found = 1;
  State state = 2;
}
enum State {
  reserved 7;
  STATE_UNSPECIFIED = 0;
  STATE_GOOD = 1;
}
message Spare {}
message Idle {}
enum Unused {
  UNUSED_UNSPECIFIED = 0;
}
service Others {
  rpc Get(Spare) returns (Spare);
}
"#;

    fn of(text: &str) -> Packages {
        packages(&compiled("a/v1/a.proto", text)).unwrap()
    }

    #[test]
    fn each_promise_is_kept() {
        let before = of(PROMISED);
        assert_eq!(faults(&before, &before), Vec::<String>::new());
        for (from, to, rule) in [
            ("package a.v1", "package a.v2", "PACKAGE_NO_DELETE"),
            (
                "service Others {\n  rpc Get(Spare) returns (Spare);\n}",
                "",
                "SERVICE_NO_DELETE",
            ),
            (
                "  rpc List(GetRequest) returns (GetResponse);\n",
                "",
                "RPC_NO_DELETE",
            ),
            (
                "rpc List(GetRequest)",
                "rpc List(Spare)",
                "RPC_SAME_REQUEST_TYPE",
            ),
            (
                "rpc List(GetRequest) returns (GetResponse)",
                "rpc List(GetRequest) returns (Spare)",
                "RPC_SAME_RESPONSE_TYPE",
            ),
            (
                "rpc List(GetRequest)",
                "rpc List(stream GetRequest)",
                "RPC_SAME_CLIENT_STREAMING",
            ),
            (
                "rpc List(GetRequest) returns (G",
                "rpc List(GetRequest) returns (stream G",
                "RPC_SAME_SERVER_STREAMING",
            ),
            ("message Idle {}", "message Other {}", "MESSAGE_NO_DELETE"),
            (
                "enum Unused {\n  UNUSED_UNSPECIFIED = 0;\n}",
                "",
                "ENUM_NO_DELETE",
            ),
            ("  string id = 1;\n", "", "FIELD_NO_DELETE"),
            ("  string id = 1;\n", "  reserved 1;\n", "FIELD_NO_DELETE"),
            ("string id = 1", "string id = 6", "FIELD_SAME_NUMBER"),
            ("string id = 1", "string key = 1", "FIELD_SAME_NAME"),
            (
                "string id = 1",
                "string id = 1 [json_name = \"key\"]",
                "FIELD_SAME_JSON_NAME",
            ),
            ("int32 size", "int64 size", "FIELD_SAME_TYPE"),
            ("  State state", "  Unused state", "FIELD_SAME_TYPE"),
            (
                "optional string filter",
                "string filter",
                "FIELD_SAME_CARDINALITY",
            ),
            (
                "repeated string found",
                "string found",
                "FIELD_SAME_CARDINALITY",
            ),
            (
                "oneof which { bool a = 4; bool b = 5; }",
                "oneof which { bool a = 4; } bool b = 5;",
                "FIELD_SAME_ONEOF",
            ),
            ("  STATE_GOOD = 1;\n", "", "ENUM_VALUE_NO_DELETE"),
            ("STATE_GOOD = 1", "STATE_GOOD = 2", "ENUM_VALUE_SAME_NUMBER"),
            ("STATE_GOOD = 1", "STATE_FINE = 1", "ENUM_VALUE_SAME_NAME"),
            (
                "  reserved 8 to 9;\n",
                "  reserved 8;\n",
                "RESERVED_NO_DELETE",
            ),
            (
                "  reserved 8 to 9;\n",
                "  string reuse = 8; reserved 9;\n",
                "RESERVED_NO_DELETE",
            ),
            ("  reserved \"gone\";\n", "", "RESERVED_NO_DELETE"),
            ("  reserved 7;\n", "", "RESERVED_NO_DELETE"),
        ] {
            assert!(PROMISED.contains(from), "{from}");
            let changed = PROMISED.replace(from, to);
            let found = faults(&before, &of(&changed));
            assert!(
                found
                    .iter()
                    .any(|fault| fault.ends_with(&format!("({rule})"))),
                "{from:?} -> {to:?}: expected {rule}, found {found:?}"
            );
            assert_eq!(found.len(), 1, "{from:?} -> {to:?}: {found:?}");
        }
    }

    #[test]
    fn additions_break_nothing_and_are_named() {
        let before = of(PROMISED);
        let more = PROMISED
            .replace(
                "message Spare {}",
                "message Spare { int32 x = 1; }\nmessage New {}",
            )
            .replace("  STATE_GOOD = 1;", "  STATE_GOOD = 1; STATE_BAD = 2;")
            .replace(
                "service Others {",
                "service Others {\n  rpc Put(Spare) returns (New);",
            )
            .replace("  reserved 7;", "  reserved 6 to 7;");
        let now = of(&more);
        assert_eq!(faults(&before, &now), Vec::<String>::new());
        assert_eq!(
            additions(&before, &now),
            [
                "a.v1.Others.Put",
                "a.v1.New",
                "a.v1.Spare.x = 1",
                "a.v1.State.STATE_BAD = 2"
            ]
        );
    }
}
