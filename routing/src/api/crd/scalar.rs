//! Schemas of the values that are read in their own way: all of them are text for the API server.

use std::borrow::Cow;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};

use crate::api::issuer::TsigAlgorithm;
use crate::api::protocol::Protocol;
use crate::api::scalar::{Bytes, ProtoDuration};

macro_rules! text {
    ($type:ty, $name:literal, $description:literal) => {
        impl JsonSchema for $type {
            fn schema_name() -> Cow<'static, str> {
                $name.into()
            }

            fn json_schema(_: &mut SchemaGenerator) -> Schema {
                json_schema!({"type": "string", "description": $description})
            }
        }
    };
}

text!(ProtoDuration, "Duration", "A duration, as `10s`, `1.5s` or `500ms`.");
text!(Bytes, "Bytes", "Bytes as base64.");
text!(TsigAlgorithm, "TsigAlgorithm", "`HMAC-SHA256`, `HMAC-SHA384` or `HMAC-SHA512`.");
// Any case is right, so there is no list of names to compare with.
text!(Protocol, "Protocol", "A protocol, as `HTTP`, `HTTPS`, `HTTP2`, `GRPC`, `TLS` or `TCP`.");
