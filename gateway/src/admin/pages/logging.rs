//! The level of the log.

use http::StatusCode;
use percent_encoding::percent_decode_str;

use crate::{
    admin::{
        answers::{Reply, json, text},
        schema::{Answer, process::Logging},
    },
    telemetry::log::LogLevel,
};

/// Tells the filter, or changes it: `level=debug`, `http=debug`, `paths=http:debug,upstream:info`.
pub(super) fn answer(query: Option<&str>, log: Option<&LogLevel>) -> Reply {
    let Some(log) = log else {
        return text(StatusCode::NOT_IMPLEMENTED, "the log filter cannot be changed in this process\n");
    };
    match query.unwrap_or_default() {
        "" => text(StatusCode::OK, format!("{}\n", log.current())),
        "format=json" => json(&Answer::new(Logging { filter: log.current(), components: log.levels() })),
        query => match change(query, log) {
            Ok(()) => text(StatusCode::OK, format!("{}\n", log.current())),
            Err(sentence) => text(StatusCode::BAD_REQUEST, format!("{sentence}\n")),
        },
    }
}

fn change(query: &str, log: &LogLevel) -> Result<(), String> {
    let how =
        || "write ?level=, as in /logging?level=debug, or a component's name, as in /logging?http=debug".to_owned();
    for pair in query.split('&') {
        let (name, value) = pair.split_once('=').ok_or_else(how)?;
        let value = percent_decode_str(value).decode_utf8_lossy();
        match name {
            "level" => log.set(&value)?,
            "paths" => {
                let parts = value.split(',').map(|part| part.split_once(':').ok_or_else(how));
                log.set_components(&parts.collect::<Result<Vec<_>, _>>()?)?;
            }
            name => log.set_components(&[(name, &value)])?,
        }
    }
    Ok(())
}
