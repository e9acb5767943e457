//! What a client relies on, of a package: names, numbers and types, and no words.

use std::collections::BTreeMap;

use anyhow::{Context, Result, ensure};
use prost_types::field_descriptor_proto::{Label, Type};
use prost_types::{
    DescriptorProto, EnumDescriptorProto, FieldDescriptorProto, FileDescriptorProto,
    ServiceDescriptorProto,
};
use serde::{Deserialize, Serialize};

/// A package. Messages and enums within messages are named `Outer.Inner`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Package {
    pub(crate) services: BTreeMap<String, BTreeMap<String, Method>>,
    pub(crate) messages: BTreeMap<String, Message>,
    pub(crate) enums: BTreeMap<String, Enum>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Method {
    pub(crate) request: String,
    pub(crate) response: String,
    pub(crate) streams_requests: bool,
    pub(crate) streams_responses: bool,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Message {
    /// By number.
    pub(crate) fields: BTreeMap<i32, Field>,
    pub(crate) reserved: Reserved,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Field {
    pub(crate) name: String,
    pub(crate) json: String,
    pub(crate) r#type: String,
    /// `single`, `optional`, `repeated` or `required`.
    pub(crate) count: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) oneof: Option<String>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Enum {
    /// Names by number; more than one where there are aliases.
    pub(crate) values: BTreeMap<i32, Vec<String>>,
    pub(crate) reserved: Reserved,
}

/// Numbers and names that nothing may have.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Reserved {
    /// First and last.
    pub(crate) numbers: Vec<(i32, i32)>,
    pub(crate) names: Vec<String>,
}

/// Every package of `files`.
pub(crate) fn packages(files: &[FileDescriptorProto]) -> Result<BTreeMap<String, Package>> {
    let mut packages: BTreeMap<String, Package> = BTreeMap::new();
    for file in files {
        ensure!(
            file.syntax() == "proto3" && file.extension.is_empty(),
            "{}: only proto3 without extensions is read",
            file.name()
        );
        let package = packages.entry(file.package().to_owned()).or_default();
        for message in &file.message_type {
            take_message(package, "", message)?;
        }
        for one in &file.enum_type {
            take_enum(package, "", one);
        }
        for service in &file.service {
            take_service(package, service);
        }
    }
    Ok(packages)
}

fn take_message(package: &mut Package, outer: &str, message: &DescriptorProto) -> Result<()> {
    let name = format!("{outer}{}", message.name());
    let inner = format!("{name}.");
    for nested in &message.nested_type {
        take_message(package, &inner, nested)?;
    }
    for one in &message.enum_type {
        take_enum(package, &inner, one);
    }
    let mut fields = BTreeMap::new();
    for field in &message.field {
        let taken =
            take_field(message, field).with_context(|| format!("{name}.{}", field.name()))?;
        fields.insert(field.number(), taken);
    }
    let ranges = message.reserved_range.iter();
    let reserved = Reserved {
        // The end of a message's range is not in it.
        numbers: ranges
            .map(|range| (range.start(), range.end() - 1))
            .collect(),
        names: message.reserved_name.clone(),
    };
    package.messages.insert(name, Message { fields, reserved });
    Ok(())
}

fn take_field(message: &DescriptorProto, field: &FieldDescriptorProto) -> Result<Field> {
    let of_message = |name: &str| name.trim_start_matches('.').to_owned();
    let scalar = || -> Result<String> {
        // `TYPE_UINT64`, as protoc names it.
        let name = field.r#type().as_str_name();
        let name = name
            .strip_prefix("TYPE_")
            .context("a type without a name")?;
        Ok(name.to_lowercase())
    };
    let r#type = match field.r#type() {
        Type::Message | Type::Enum => of_message(field.type_name()),
        _ => scalar()?,
    };
    let count = match field.label() {
        Label::Repeated => "repeated",
        Label::Required => "required",
        Label::Optional if field.proto3_optional() => "optional",
        Label::Optional => "single",
    };
    // What `optional` makes is no oneof that anybody wrote.
    let oneof = field
        .oneof_index
        .filter(|_| !field.proto3_optional())
        .and_then(|at| message.oneof_decl.get(usize::try_from(at).ok()?))
        .map(|oneof| oneof.name().to_owned());
    Ok(Field {
        name: field.name().to_owned(),
        json: field.json_name().to_owned(),
        r#type,
        count: count.to_owned(),
        oneof,
    })
}

fn take_enum(package: &mut Package, outer: &str, one: &EnumDescriptorProto) {
    let mut values: BTreeMap<i32, Vec<String>> = BTreeMap::new();
    for value in &one.value {
        let names = values.entry(value.number()).or_default();
        names.push(value.name().to_owned());
    }
    let ranges = one.reserved_range.iter();
    let reserved = Reserved {
        // The end of an enum's range is in it.
        numbers: ranges.map(|range| (range.start(), range.end())).collect(),
        names: one.reserved_name.clone(),
    };
    let name = format!("{outer}{}", one.name());
    package.enums.insert(name, Enum { values, reserved });
}

fn take_service(package: &mut Package, service: &ServiceDescriptorProto) {
    let methods = service.method.iter().map(|method| {
        let of_message = |name: &str| name.trim_start_matches('.').to_owned();
        let taken = Method {
            request: of_message(method.input_type()),
            response: of_message(method.output_type()),
            streams_requests: method.client_streaming(),
            streams_responses: method.server_streaming(),
        };
        (method.name().to_owned(), taken)
    });
    let methods = methods.collect();
    package.services.insert(service.name().to_owned(), methods);
}

#[cfg(test)]
mod tests {
    use super::super::tests::compiled;
    use super::*;

    #[test]
    fn all_that_clients_rely_on_is_taken_and_read_back() {
        let files = compiled(
            "a/v1/a.proto",
            "syntax = \"proto3\"; package a.v1; import \"google/protobuf/duration.proto\";\n\
             message M { reserved 5 to 7, 9; reserved \"old\"; optional string a = 1; repeated N.E e = 2;\n\
             oneof o { bytes b = 3; google.protobuf.Duration d = 4; } message N { enum E { E_X = 0; reserved 3 to 4; } } }\n\
             service S { rpc Do(M) returns (stream M.N); }",
        );
        let packages = packages(&files).unwrap();
        let package = &packages["a.v1"];
        let message = &package.messages["M"];
        let field = |n| {
            let Field {
                name,
                r#type,
                count,
                oneof,
                json,
            } = &message.fields[&n];
            format!("{name} {json} {type} {count} {oneof:?}")
        };
        assert_eq!(field(1), "a a string optional None");
        assert_eq!(field(2), "e e a.v1.M.N.E repeated None");
        assert_eq!(field(3), "b b bytes single Some(\"o\")");
        assert_eq!(field(4), "d d google.protobuf.Duration single Some(\"o\")");
        assert_eq!(message.reserved.numbers, [(5, 7), (9, 9)]);
        assert_eq!(message.reserved.names, ["old"]);
        assert!(package.messages.contains_key("M.N"));
        assert_eq!(package.enums["M.N.E"].reserved.numbers, [(3, 4)]);
        let method = &package.services["S"]["Do"];
        assert!(method.streams_responses && !method.streams_requests);
        assert_eq!(
            (method.request.as_str(), method.response.as_str()),
            ("a.v1.M", "a.v1.M.N")
        );
        let text = serde_json::to_string_pretty(package).unwrap();
        assert_eq!(&serde_json::from_str::<Package>(&text).unwrap(), package);
    }
}
