//! One document for programs.

use std::io::{self, Write};

use serde::Serialize;

/// As JSON.
///
/// # Errors
/// Whoever reads is gone.
pub(super) fn json(mut out: impl Write, content: &impl Serialize) -> io::Result<()> {
    serde_json::to_writer_pretty(&mut out, content)?;
    writeln!(out)
}

/// As YAML.
///
/// # Errors
/// Whoever reads is gone.
pub(super) fn yaml(mut out: impl Write, content: &impl Serialize) -> io::Result<()> {
    let content = serde_json::to_value(content)?;
    let text = routing::resources::write_yaml(&content).map_err(io::Error::other)?;
    out.write_all(text.as_bytes())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    #[test]
    fn both_forms_say_the_same() {
        let content = json!([{"name": "a: b", "count": 7, "nothing": null}]);
        let mut text = Vec::new();
        super::yaml(&mut text, &content).unwrap();
        assert_eq!(String::from_utf8(text).unwrap(), "- count: 7\n  name: \"a: b\"\n  nothing: null\n");
        let mut text = Vec::new();
        super::json(&mut text, &content).unwrap();
        assert_eq!(serde_json::from_slice::<serde_json::Value>(&text).unwrap(), content);
    }
}
