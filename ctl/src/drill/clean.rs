//! What a recorded incident must not tell: on which machine it was made, by whom, and where that machine keeps its files.

use serde_json::Value;

/// The folder that the programs were built from. Sources are named from there.
pub const WORKSPACE: &str = env!("CARGO_MANIFEST_DIR");

/// Attributes of resources that tell of a machine or of a process on it, by how they begin.
const OF_A_MACHINE: [&str; 3] = ["host.", "os.", "process."];
/// Those that tell of a program all the same.
const KEPT: &str = "process.runtime.";

/// A line of the viewer's export, which is an OTLP request in JSON.
///
/// # Errors
/// When it is no JSON.
pub fn line(text: &str) -> Result<String, String> {
    let mut request: Value = serde_json::from_str(text).map_err(|error| error.to_string())?;
    for signal in ["resourceSpans", "resourceLogs", "resourceMetrics"] {
        let resources = request.get_mut(signal).and_then(Value::as_array_mut);
        for resource in resources.into_iter().flatten() {
            let attributes = resource.pointer_mut("/resource/attributes");
            if let Some(attributes) = attributes.and_then(Value::as_array_mut) {
                attributes.retain(|attribute| !is_of_a_machine(&attribute["key"]));
            }
        }
    }
    paths(&mut request);
    Ok(request.to_string())
}

fn is_of_a_machine(key: &Value) -> bool {
    let key = key.as_str().unwrap_or_default();
    OF_A_MACHINE.iter().any(|begin| key.starts_with(begin)) && !key.starts_with(KEPT)
}

fn paths(value: &mut Value) {
    match value {
        Value::String(text) if is_file(text) => *text = path(text),
        Value::Array(items) => items.iter_mut().for_each(paths),
        Value::Object(fields) => fields.values_mut().for_each(paths),
        _ => {}
    }
}

/// Tells a file of a machine from a route, which begins with `/` as well.
fn is_file(text: &str) -> bool {
    let of_the_system = ["/usr/", "/lib", "/root/", "/home/", "/rustc/"];
    text.starts_with('/')
        && (text.starts_with(WORKSPACE.trim_end_matches("/ctl"))
            || of_the_system.iter().any(|begin| text.starts_with(begin))
            || [".rs", ".c", ".h", ".so"]
                .iter()
                .any(|end| text.ends_with(end)))
}

/// The path of a source as everybody who has it would write it; of any other file its name alone.
fn path(text: &str) -> String {
    let workspace = WORKSPACE.trim_end_matches("/ctl");
    if let Some(own) = text.strip_prefix(workspace) {
        let own = own.trim_start_matches('/');
        if !own.starts_with("target/") {
            return own.to_owned();
        }
    }
    // Crates: /…/registry/src/INDEX/CRATE-VERSION/src/lib.rs
    if let Some((_, of_crate)) = text.split_once("/registry/src/") {
        return of_crate
            .split_once('/')
            .map_or(of_crate, |(_, path)| path)
            .to_owned();
    }
    // The standard library: /…/lib/rustlib/src/rust/library/core/src/ops/function.rs, or /rustc/HASH/library/…
    if let Some((_, library)) = text.split_once("/library/") {
        return format!("library/{library}");
    }
    text.rsplit('/').next().unwrap_or_default().to_owned()
}

/// Field of `Profile` in pprof's format that holds its texts.
const STRING_TABLE: usize = 6;
/// Of a length that is followed by so many bytes.
const LENGTH_DELIMITED: usize = 2;

/// A profile in pprof's format, unpacked, with the paths in its texts changed.
///
/// # Errors
/// When it is no protobuf.
pub fn pprof(bytes: &[u8]) -> Result<Vec<u8>, String> {
    let mut cleaned = Vec::with_capacity(bytes.len());
    let mut rest = bytes;
    while !rest.is_empty() {
        let whole = rest;
        let key = varint(&mut rest)?;
        if key & 7 != LENGTH_DELIMITED {
            match key & 7 {
                0 => {
                    varint(&mut rest)?;
                }
                1 => take(&mut rest, 8).map(drop)?,
                5 => take(&mut rest, 4).map(drop)?,
                _ => return Err(BROKEN.into()),
            }
            cleaned.extend_from_slice(&whole[..whole.len() - rest.len()]);
            continue;
        }
        let length = varint(&mut rest)?;
        let content = take(&mut rest, length)?;
        match std::str::from_utf8(content) {
            Ok(text) if key >> 3 == STRING_TABLE && is_file(text) => {
                let text = path(text);
                for number in [key, text.len()] {
                    prost::encode_length_delimiter(number, &mut cleaned)
                        .map_err(|error| error.to_string())?;
                }
                cleaned.extend_from_slice(text.as_bytes());
            }
            _ => cleaned.extend_from_slice(&whole[..whole.len() - rest.len()]),
        }
    }
    Ok(cleaned)
}

const BROKEN: &str = "the profile is broken";

fn varint(bytes: &mut &[u8]) -> Result<usize, String> {
    prost::decode_length_delimiter(bytes).map_err(|error| error.to_string())
}

fn take<'a>(bytes: &mut &'a [u8], length: usize) -> Result<&'a [u8], String> {
    let (taken, rest) = bytes.split_at_checked(length).ok_or(BROKEN)?;
    *bytes = rest;
    Ok(taken)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn resources_keep_what_tells_of_the_program_and_lose_what_tells_of_the_machine() {
        let attribute = |key: &str| json!({ "key": key, "value": { "stringValue": "x" } });
        let of = |keys: &[&str]| {
            let attributes: Vec<Value> = keys.iter().map(|key| attribute(key)).collect();
            json!({ "resourceSpans": [{ "resource": { "attributes": attributes }, "scopeSpans": [] }] })
        };
        let all = [
            "service.name",
            "host.name",
            "process.command_args",
            "process.runtime.name",
            "os.type",
        ];
        let cleaned = line(&of(&all).to_string()).unwrap();
        let cleaned: Value = serde_json::from_str(&cleaned).unwrap();
        assert_eq!(cleaned, of(&["service.name", "process.runtime.name"]));
        assert!(line("no json").is_err());
    }

    #[test]
    fn a_path_is_named_from_where_everybody_has_it() {
        let workspace = WORKSPACE.trim_end_matches("/ctl");
        for (from, to) in [
            (format!("{workspace}/shop/src/main.rs"), "shop/src/main.rs"),
            (format!("{workspace}/target/debug/shop"), "shop"),
            (
                "/a/registry/src/index-1/tokio-1.4.0/src/lib.rs".into(),
                "tokio-1.4.0/src/lib.rs",
            ),
            (
                "/rustc/59807616/library/core/src/ops/function.rs".into(),
                "library/core/src/ops/function.rs",
            ),
            ("/usr/lib/libc.so.6".into(), "libc.so.6"),
        ] {
            assert!(is_file(&from), "{from}");
            assert_eq!(path(&from), to, "{from}");
        }
        assert!(!is_file("/baskets/{id}"));
    }

    #[test]
    fn texts_of_a_profile_are_cleaned_and_all_else_stays() {
        let texts = |text: &str| {
            let mut profile = vec![0x48, 5, 0x12, 2, 8, 1]; // time_nanos: 5, then a sample
            profile.extend([0x32, text.len() as u8]);
            profile.extend(text.as_bytes());
            profile.extend([0x32, 3]);
            profile.extend(b"cpu");
            profile
        };
        assert_eq!(pprof(&texts("/usr/bin/shop")).unwrap(), texts("shop"));
        assert_eq!(pprof(&[]).unwrap(), Vec::<u8>::new());
        assert!(pprof(&[0x32, 200]).is_err());
    }
}
