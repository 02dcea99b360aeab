//! The definitions are what an API server takes, and refuse nothing that compiles.

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use super::*;
use crate::api::check::push_key;
use crate::problem::Severity;
use crate::resources::{parse_file, parse_object};

/// Words of a structural schema that we use; another one is a mistake until it is listed here.
const WORDS: [&str; 13] = [
    "additionalProperties",
    "anyOf",
    "description",
    "enum",
    "format",
    "items",
    "maximum",
    "minimum",
    "properties",
    "required",
    "type",
    "x-kubernetes-int-or-string",
    "x-kubernetes-preserve-unknown-fields",
];
const FORMATS: [&str; 5] = ["date-time", "double", "float", "int32", "int64"];

/// Everything that keeps a schema from being structural, or an unknown field from being kept.
fn unstructural(schema: &Value, path: &str, found: &mut Vec<String>) {
    let Some(node) = schema.as_object() else {
        return found.push(format!("{path} is no schema"));
    };
    found.extend(node.keys().filter(|word| !WORDS.contains(&word.as_str())).map(|word| format!("{path}: {word}")));
    if node.get("x-kubernetes-int-or-string") == Some(&json!(true)) {
        // The one form of `anyOf` that is allowed, and without a type beside it.
        if node.contains_key("type") || node["anyOf"] != json!([{"type": "integer"}, {"type": "string"}]) {
            found.push(format!("{path} is not the form of an int or string"));
        }
        return;
    }
    let kind = node.get("type").and_then(Value::as_str).unwrap_or_default();
    if !["object", "array", "string", "integer", "number", "boolean"].contains(&kind) || node.contains_key("anyOf") {
        found.push(format!("{path} has no type"));
    }
    if let Some(format) = node.get("format").and_then(Value::as_str)
        && !FORMATS.contains(&format)
    {
        found.push(format!("{path} has the unknown format {format}"));
    }
    match (node.get("properties"), node.get("additionalProperties")) {
        (Some(_), Some(_)) => found.push(format!("{path} has properties and additionalProperties")),
        (Some(properties), None) => {
            for (name, property) in properties.as_object().into_iter().flatten() {
                unstructural(property, &format!("{path}.{name}"), found);
            }
        }
        (None, Some(values)) => unstructural(values, &format!("{path}.*"), found),
        (None, None) => {}
    }
    let open = node.get("x-kubernetes-preserve-unknown-fields") == Some(&json!(true));
    if kind == "object" && !open && !node.contains_key("additionalProperties") && path != ROOT {
        found.push(format!("{path} loses unknown fields"));
    }
    if let Some(items) = node.get("items") {
        unstructural(items, &format!("{path}[]"), found);
    } else if kind == "array" {
        found.push(format!("{path} has no items"));
    }
    for name in node.get("required").and_then(Value::as_array).into_iter().flatten() {
        if node["properties"].get(name.as_str().unwrap_or_default()).is_none() {
            found.push(format!("{path} requires {name}, which it does not have"));
        }
    }
}

const ROOT: &str = "object";

/// Everything in `value` that the schema refuses.
fn refused(value: &Value, schema: &Value, path: &str, found: &mut Vec<String>) {
    let right = match schema["type"].as_str() {
        Some("object") => value.is_object(),
        Some("array") => value.is_array(),
        Some("string") => value.is_string(),
        Some("integer") => value.is_i64() || value.is_u64(),
        Some("number") => value.is_number(),
        Some("boolean") => value.is_boolean(),
        _ => value.is_string() || value.is_i64(),
    };
    if !right {
        return found.push(format!("{path}: {value} is not {}", schema["type"]));
    }
    if schema["enum"].as_array().is_some_and(|names| !names.contains(value)) {
        found.push(format!("{path}: {value} is not one of {}", schema["enum"]));
    }
    let number = value.as_f64();
    let outside = |bound: &str, wrong: fn(f64, f64) -> bool| {
        number.zip(schema[bound].as_f64()).is_some_and(|(number, bound)| wrong(number, bound))
    };
    if outside("minimum", |number, bound| number < bound) || outside("maximum", |number, bound| number > bound) {
        found.push(format!("{path}: {value} is out of range"));
    }
    for name in schema["required"].as_array().into_iter().flatten().filter_map(Value::as_str) {
        if value.get(name).is_none() {
            found.push(format!("{path}.{name} is required"));
        }
    }
    for (name, value) in value.as_object().into_iter().flatten() {
        let known = schema["properties"].get(name).or_else(|| schema.get("additionalProperties"));
        if let Some(schema) = known {
            refused(value, schema, &format!("{path}.{name}"), found);
        }
    }
    for (index, item) in value.as_array().into_iter().flatten().enumerate() {
        refused(item, &schema["items"], &format!("{path}[{index}]"), found);
    }
}

fn schema_of(definition: &Value, version: &str) -> Option<Value> {
    let versions = definition["spec"]["versions"].as_array()?;
    let version = versions.iter().find(|it| it["name"] == version)?;
    version.pointer("/schema/openAPIV3Schema").cloned()
}

/// The schema for a document, or `None` when there is no definition for its kind.
fn schema_for(document: &Value) -> Option<Value> {
    let (group, version) = document["apiVersion"].as_str()?.split_once('/')?;
    let of_kind = |it: &Value| it["spec"]["group"] == group && it["spec"]["names"]["kind"] == document["kind"];
    schema_of(all().iter().find(|it| of_kind(it))?, version)
}

fn judge(document: &Value) -> Vec<String> {
    let mut found = Vec::new();
    if let Some(schema) = schema_for(document) {
        refused(document, &schema, ROOT, &mut found);
    }
    found
}

#[test]
fn every_definition_is_structural_and_keeps_unknown_fields() {
    let mut found = Vec::new();
    for definition in all() {
        for version in definition["spec"]["versions"].as_array().unwrap() {
            unstructural(version.pointer("/schema/openAPIV3Schema").unwrap(), ROOT, &mut found);
        }
    }
    assert_eq!(found, Vec::<String>::new());
}

#[test]
fn names_and_versions_of_istios_kinds_are_istios() {
    let names: Vec<String> = all()
        .iter()
        .map(|definition| {
            let spec = &definition["spec"];
            let versions = spec["versions"].as_array().unwrap();
            let stored: Vec<&Value> =
                versions.iter().filter(|it| it["storage"] == true).map(|it| &it["name"]).collect();
            assert_eq!(stored, [&versions[0]["name"]]);
            assert!(versions.iter().all(|it| it["served"] == true && it["schema"] == versions[0]["schema"]));
            assert!(versions.iter().all(|it| it["subresources"]["status"].is_object()));
            let served: Vec<_> = versions.iter().filter_map(|it| it["name"].as_str()).collect();
            let list = |value: &Value| {
                value.as_array().unwrap().iter().filter_map(Value::as_str).collect::<Vec<_>>().join(",")
            };
            let names = &spec["names"];
            format!(
                "{} {} {} {} {} {}",
                definition["metadata"]["name"].as_str().unwrap(),
                names["singular"].as_str().unwrap(),
                names["listKind"].as_str().unwrap(),
                list(&names["shortNames"]),
                list(&names["categories"]),
                served.join(",")
            )
        })
        .collect();
    assert_eq!(
        names,
        [
            "issuers.acme.sluice.dev issuer IssuerList acme sluice-dev,acme-sluice-dev v1alpha1",
            "authorizationpolicies.security.istio.io authorizationpolicy AuthorizationPolicyList ap istio-io,security-istio-io v1,v1beta1",
            "destinationrules.networking.istio.io destinationrule DestinationRuleList dr \
             istio-io,networking-istio-io v1,v1beta1,v1alpha3",
            "gateways.networking.istio.io gateway GatewayList gw istio-io,networking-istio-io v1,v1beta1,v1alpha3",
            "peerauthentications.security.istio.io peerauthentication PeerAuthenticationList pa \
             istio-io,security-istio-io v1,v1beta1",
            "proxyconfigs.networking.istio.io proxyconfig ProxyConfigList  istio-io,networking-istio-io v1beta1",
            "requestauthentications.security.istio.io requestauthentication RequestAuthenticationList ra \
             istio-io,security-istio-io v1,v1beta1",
            "serviceentries.networking.istio.io serviceentry ServiceEntryList se \
             istio-io,networking-istio-io v1,v1beta1,v1alpha3",
            "sidecars.networking.istio.io sidecar SidecarList  istio-io,networking-istio-io v1,v1beta1,v1alpha3",
            "telemetries.telemetry.istio.io telemetry TelemetryList telemetry istio-io,telemetry-istio-io v1,v1alpha1",
            "virtualservices.networking.istio.io virtualservice VirtualServiceList vs \
             istio-io,networking-istio-io v1,v1beta1,v1alpha3",
            "workloadentries.networking.istio.io workloadentry WorkloadEntryList we \
             istio-io,networking-istio-io v1,v1beta1,v1alpha3",
            "workloadgroups.networking.istio.io workloadgroup WorkloadGroupList wg \
             istio-io,networking-istio-io v1,v1beta1,v1alpha3",
            "ratelimits.policy.sluice.dev ratelimit RateLimitList  sluice-dev,policy-sluice-dev v1alpha1",
        ]
    );
}

#[test]
fn every_field_and_enum_says_what_it_is() {
    fn silent(schema: &Value, path: &str, found: &mut Vec<String>) {
        for (name, property) in schema["properties"].as_object().into_iter().flatten() {
            let path = format!("{path}.{name}");
            if property["description"].as_str().is_none_or(str::is_empty) {
                found.push(path.clone());
            }
            silent(property, &path, found);
            silent(&property["items"], &path, found);
        }
    }
    let mut found = Vec::new();
    for definition in all() {
        let (kind, version) = (&definition["spec"]["names"]["kind"], &definition["spec"]["versions"][0]["name"]);
        silent(&schema_of(&definition, version.as_str().unwrap()).unwrap(), kind.as_str().unwrap(), &mut found);
    }
    assert_eq!(found, Vec::<String>::new());
}

#[test]
fn values_with_their_own_form_are_text_numbers_and_lists_of_names() {
    let schema = schema_for(&json!({"apiVersion": "networking.istio.io/v1", "kind": "Gateway"})).unwrap();
    let server = schema.pointer("/properties/spec/properties/servers/items/properties").unwrap();
    assert_eq!(server["port"]["properties"]["protocol"]["type"], "string");
    assert_eq!(server["port"]["properties"]["number"]["maximum"], u32::MAX);
    assert_eq!(
        server["tls"]["properties"]["mode"]["enum"],
        json!(["PASSTHROUGH", "SIMPLE", "MUTUAL", "AUTO_PASSTHROUGH", "ISTIO_MUTUAL", "OPTIONAL_MUTUAL"])
    );
    let schema = schema_for(&json!({"apiVersion": "networking.istio.io/v1", "kind": "VirtualService"})).unwrap();
    let route = schema.pointer("/properties/spec/properties/http/items/properties").unwrap();
    assert_eq!(route["timeout"]["type"], "string");
    assert_eq!(route["match"]["items"]["properties"]["uri"]["properties"]["prefix"]["type"], "string");
    assert_eq!(route["mirrorPercentage"]["properties"]["value"]["type"], "number");
    let schema = schema_for(&json!({"apiVersion": "security.istio.io/v1", "kind": "PeerAuthentication"})).unwrap();
    let ports = &schema["properties"]["spec"]["properties"]["portLevelMtls"];
    assert_eq!(ports["additionalProperties"]["properties"]["mode"]["enum"][3], "STRICT");
}

#[test]
fn what_is_clearly_wrong_is_refused_by_the_api_server_already() {
    let gateway = json!({
        "apiVersion": "networking.istio.io/v1",
        "kind": "Gateway",
        "spec": {"servers": [{"port": {"number": "443", "name": "https"}, "tls": {"mode": "EASY"}, "brand_new": 1}]},
    });
    assert_eq!(
        judge(&gateway),
        [
            "object.spec.servers[0].hosts is required",
            "object.spec.servers[0].port.protocol is required",
            "object.spec.servers[0].port.number: \"443\" is not \"integer\"",
            "object.spec.servers[0].tls.mode: \"EASY\" is not one of [\"PASSTHROUGH\",\"SIMPLE\",\"MUTUAL\",\
             \"AUTO_PASSTHROUGH\",\"ISTIO_MUTUAL\",\"OPTIONAL_MUTUAL\"]",
        ]
    );
}

#[test]
fn objects_that_are_read_without_an_error_pass_the_schema() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut files = Vec::new();
    for folder in [root.join("testdata"), root.join("../examples")] {
        collect(&folder, &mut files);
    }
    let (mut seen, mut found) = (0, Vec::new());
    for file in files {
        let text = fs::read_to_string(&file).unwrap();
        for text in text.split("\n---") {
            let parsed = parse_file("one.yaml", text);
            if parsed.problems.iter().any(|problem| problem.severity == Severity::Error) {
                continue;
            }
            let Ok(document) = read(text) else { continue };
            seen += usize::from(schema_for(&document).is_some());
            found.extend(judge(&document).into_iter().map(|fault| format!("{}: {fault}", file.display())));
        }
    }
    assert!(seen > 80, "only {seen} objects were found");
    assert_eq!(found, Vec::<String>::new());
}

/// Every leaf of a schema as (path, the value of `spec` with nothing but that leaf), the leaf being of another type than the
/// schema's.
fn mistyped(schema: &Value, path: &str, wrap: &dyn Fn(Value) -> Value, found: &mut Vec<(String, Value)>) {
    for (name, property) in schema["properties"].as_object().into_iter().flatten() {
        let mut path = path.to_owned();
        push_key(&mut path, name);
        mistyped(property, &path, &|value| wrap(json!({name: value})), found);
    }
    if let Some(values) = schema.get("additionalProperties") {
        // A key that is right as a name and as the number of a port.
        mistyped(values, &format!("{path}.8080"), &|value| wrap(json!({"8080": value})), found);
    }
    if let Some(items) = schema.get("items") {
        mistyped(items, &format!("{path}[0]"), &|value| wrap(json!([value])), found);
    }
    let wrong = match schema["type"].as_str() {
        Some("integer") => json!("1"),
        Some("number") => json!("0.5"),
        Some("boolean") => json!("true"),
        Some("string") => json!(1),
        _ => return,
    };
    found.push((path.to_owned(), wrap(wrong)));
}

#[test]
fn a_value_of_another_type_than_the_api_server_takes_is_an_error_in_every_field() {
    let mut seen = 0;
    for definition in DEFINITIONS {
        let mut fields = Vec::new();
        mistyped(&(definition.spec)(), "spec", &|value| value, &mut fields);
        let version = format!("{}/{}", definition.group, definition.versions[0]);
        for (field, spec) in fields {
            let object =
                json!({"apiVersion": version, "kind": definition.kind, "metadata": {"name": "it"}, "spec": spec});
            let problems = parse_object(&object).problems;
            let told = problems.iter().any(|it| it.severity == Severity::Error && it.field == field);
            assert!(told, "{} {field}: {problems:?}", definition.kind);
            seen += 1;
        }
    }
    assert!(seen > 400, "{seen} fields");
}

/// As a file of configuration is read: `f` is a name and not false.
fn read(text: &str) -> Result<Value, serde_saphyr::Error> {
    serde_saphyr::from_str_with_options(text, serde_saphyr::options! { strict_booleans: true })
}

fn collect(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).unwrap().flatten() {
        let path = entry.path();
        match path.extension().and_then(|ending| ending.to_str()) {
            _ if path.is_dir() => collect(&path, found),
            Some("yaml") => found.push(path),
            _ => {}
        }
    }
}

#[test]
fn a_definition_fits_into_the_annotation_of_kubectl_apply() {
    for definition in all() {
        let length = definition.to_string().len();
        assert!(length < 200_000, "{} has {length} bytes; apply keeps 262144 at most", definition["metadata"]["name"]);
    }
}

#[test]
fn the_stream_reads_back_as_the_definitions() {
    let stream = yaml().unwrap();
    let documents: Vec<Value> = stream.split("---\n").skip(1).map(|it| read(it).unwrap()).collect();
    assert_eq!(documents, all());
}
