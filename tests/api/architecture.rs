//! The invariants of the house, read from the syntax trees of the sources: not from names in their text.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use proc_macro2::{TokenStream, TokenTree};
use syn::visit::{self, Visit};

/// A crate of the workspace.
struct Crate {
    /// Its directory below the workspace's root; empty for the root crate.
    directory: String,
    files: Vec<File>,
}

/// One source file, without its tests.
struct File {
    /// Below `src/`, such as `deps/queue/mod.rs`.
    name: String,
    /// The module that it is, such as `deps`, `queue`.
    module: Vec<String>,
    /// Every path that it names, spelled out from where it starts.
    paths: Vec<Named>,
}

/// A path in the source.
struct Named {
    /// The module that it stands in: the file's, or an inline one.
    from: Vec<String>,
    segments: Vec<String>,
}

fn workspace() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

fn crates() -> Vec<Crate> {
    let manifest = fs::read_to_string(workspace().join("Cargo.toml")).expect("a manifest");
    let members = manifest
        .lines()
        .find_map(|line| line.strip_prefix("members = ["));
    let members = members
        .expect("a list of members")
        .trim_end_matches(']')
        .split(',');
    let members = members.map(|member| member.trim().trim_matches('"').to_owned());
    let crates: Vec<Crate> = std::iter::once(String::new())
        .chain(members)
        .map(parse)
        .collect();
    assert!(crates.len() >= 4, "the workspace has more crates");
    crates
}

fn parse(directory: String) -> Crate {
    let root = workspace().join(&directory).join("src");
    let mut files = Vec::new();
    collect(&root, &root, &mut files);
    assert!(!files.is_empty(), "{directory} has no sources");
    Crate { directory, files }
}

fn collect(root: &Path, directory: &Path, files: &mut Vec<File>) {
    for entry in fs::read_dir(directory).expect("a directory") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            collect(root, &path, files);
        } else if path.ends_with("tests.rs") {
            // Tests in a file of their own.
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            let name = path
                .strip_prefix(root)
                .expect("below")
                .display()
                .to_string();
            let mut module: Vec<String> = name
                .trim_end_matches(".rs")
                .split('/')
                .map(str::to_owned)
                .collect();
            if module
                .last()
                .is_some_and(|last| ["mod", "lib", "main"].contains(&last.as_str()))
            {
                module.pop();
            }
            let text = fs::read_to_string(&path).expect("text");
            let tree = syn::parse_file(&text).unwrap_or_else(|error| panic!("{name}: {error}"));
            let mut reader = Reader {
                module: module.clone(),
                paths: Vec::new(),
            };
            reader.visit_file(&tree);
            files.push(File {
                name,
                module,
                paths: reader.paths,
            });
        }
    }
}

/// Collects the paths of a file: in types, expressions and `use`, and in the tokens of macros.
struct Reader {
    module: Vec<String>,
    paths: Vec<Named>,
}

impl Reader {
    fn add(&mut self, segments: Vec<String>) {
        self.paths.push(Named {
            from: self.module.clone(),
            segments,
        });
    }

    fn add_use(&mut self, tree: &syn::UseTree, before: &[String]) {
        let with = |ident: &syn::Ident| {
            let mut path = before.to_vec();
            path.push(ident.to_string());
            path
        };
        match tree {
            syn::UseTree::Path(path) => self.add_use(&path.tree, &with(&path.ident)),
            syn::UseTree::Name(name) => self.add(with(&name.ident)),
            syn::UseTree::Rename(name) => self.add(with(&name.ident)),
            syn::UseTree::Glob(_) => self.add(before.to_vec()),
            syn::UseTree::Group(group) => {
                group
                    .items
                    .iter()
                    .for_each(|item| self.add_use(item, before));
            }
        }
    }

    /// Identifiers that `::` joins.
    fn add_tokens(&mut self, tokens: TokenStream) {
        let mut path: Vec<String> = Vec::new();
        let mut colons = 0;
        for token in tokens {
            match token {
                TokenTree::Punct(punct) if punct.as_char() == ':' && !path.is_empty() => {
                    colons += 1
                }
                TokenTree::Ident(ident) => {
                    if colons != 2 && !path.is_empty() {
                        self.add(std::mem::take(&mut path));
                    }
                    path.push(ident.to_string());
                    colons = 0;
                }
                other => {
                    if !path.is_empty() {
                        self.add(std::mem::take(&mut path));
                    }
                    colons = 0;
                    match other {
                        TokenTree::Group(group) => self.add_tokens(group.stream()),
                        // As in `#[serde(deserialize_with = "crate::whole::number")]`.
                        TokenTree::Literal(literal) => self.add_text(&literal.to_string()),
                        _ => {}
                    }
                }
            }
        }
        if !path.is_empty() {
            self.add(path);
        }
    }
}

impl Reader {
    /// A text that is a path.
    fn add_text(&mut self, literal: &str) {
        let text = literal.trim_matches('"');
        if text.contains("::")
            && let Ok(path) = syn::parse_str::<syn::Path>(text)
        {
            self.visit_path(&path);
        }
    }
}

/// Whether it is compiled for tests alone: `cfg(test)`, `cfg(all(test, …))`.
fn is_test(attributes: &[syn::Attribute]) -> bool {
    attributes.iter().any(|attribute| {
        let syn::Meta::List(list) = &attribute.meta else {
            return false;
        };
        let condition = list.tokens.to_string();
        let mut words = condition.split(|c: char| !c.is_alphanumeric() && c != '_');
        attribute.path().is_ident("cfg")
            && words.any(|word| word == "test")
            && !condition.contains("not")
    })
}

impl<'ast> Visit<'ast> for Reader {
    fn visit_item_mod(&mut self, item: &'ast syn::ItemMod) {
        if is_test(&item.attrs) || item.content.is_none() {
            return;
        }
        self.module.push(item.ident.to_string());
        visit::visit_item_mod(self, item);
        self.module.pop();
    }

    fn visit_item_fn(&mut self, item: &'ast syn::ItemFn) {
        if !is_test(&item.attrs) {
            visit::visit_item_fn(self, item);
        }
    }

    fn visit_item_use(&mut self, item: &'ast syn::ItemUse) {
        if !is_test(&item.attrs) {
            self.add_use(&item.tree, &[]);
        }
    }

    fn visit_path(&mut self, path: &'ast syn::Path) {
        self.add(
            path.segments
                .iter()
                .map(|segment| segment.ident.to_string())
                .collect(),
        );
        visit::visit_path(self, path);
    }

    fn visit_macro(&mut self, item: &'ast syn::Macro) {
        self.visit_path(&item.path);
        self.add_tokens(item.tokens.clone());
    }

    fn visit_attribute(&mut self, attribute: &'ast syn::Attribute) {
        if let syn::Meta::List(list) = &attribute.meta {
            self.add_tokens(list.tokens.clone());
        }
    }
}

impl Crate {
    /// The file that holds what `named` leads to, if that is in this crate.
    fn target(&self, file: &File, named: &Named) -> Option<&File> {
        let mut segments = named.segments.iter().map(String::as_str).peekable();
        let mut module = match *segments.peek()? {
            "crate" => {
                segments.next();
                Vec::new()
            }
            "self" | "super" => named.from.clone(),
            // A module below, or a name that a `use` of this file has told of already.
            _ => named.from.clone(),
        };
        while let Some(step @ ("self" | "super")) = segments.peek().copied() {
            segments.next();
            if step == "super" {
                module.pop();
            }
        }
        let mut found = self.file_of(&module);
        for segment in segments {
            module.push(segment.to_owned());
            match self.file_of(&module) {
                Some(deeper) => found = Some(deeper),
                None => break,
            }
        }
        found.filter(|target| target.name != file.name && target.name != "main.rs")
    }

    fn file_of(&self, module: &[String]) -> Option<&File> {
        let mut fitting = self.files.iter().filter(|file| file.module == module);
        let first = fitting.next()?;
        // A crate's root may be a library beside its program.
        Some(fitting.find(|file| file.name == "lib.rs").unwrap_or(first))
    }

    /// Who needs whom: file by file, with those below a folder's own file left out, for that file only introduces them.
    fn needs(&self) -> BTreeMap<&str, BTreeSet<&str>> {
        let related = |one: &File, other: &File| {
            one.module.starts_with(&other.module) || other.module.starts_with(&one.module)
        };
        let needs = self.files.iter().map(|file| {
            let targets = file
                .paths
                .iter()
                .filter_map(|named| self.target(file, named));
            let targets = targets.filter(|target| !related(file, target));
            (
                file.name.as_str(),
                targets.map(|target| target.name.as_str()).collect(),
            )
        });
        needs.collect()
    }
}

/// Files that need each other, directly or by way of others.
fn circles<'a>(needs: &BTreeMap<&'a str, BTreeSet<&'a str>>) -> Vec<Vec<&'a str>> {
    let reach = |from: &'a str| {
        let mut seen = BTreeSet::new();
        let mut next: Vec<&str> = needs[from].iter().copied().collect();
        while let Some(file) = next.pop() {
            if seen.insert(file) {
                next.extend(needs.get(file).into_iter().flatten());
            }
        }
        seen
    };
    let reached: BTreeMap<&str, BTreeSet<&str>> =
        needs.keys().map(|file| (*file, reach(file))).collect();
    let circles: BTreeSet<Vec<&str>> = reached
        .iter()
        .filter(|(file, of_file)| of_file.contains(*file))
        .map(|(file, of_file)| {
            let back = of_file
                .iter()
                .filter(|other| reached[*other].contains(file));
            back.copied().collect()
        })
        .collect();
    circles.into_iter().collect()
}

#[test]
fn a_circle_is_found() {
    let needs = BTreeMap::from([
        ("a", BTreeSet::from(["b"])),
        ("b", BTreeSet::from(["c", "d"])),
        ("c", BTreeSet::from(["a"])),
        ("d", BTreeSet::new()),
    ]);
    assert_eq!(circles(&needs), [["a", "b", "c"]]);
}

#[test]
fn the_reader_sees_who_needs_whom() {
    let service = parse(String::new());
    let needs = service.needs();
    let of = |file: &str| needs[file].iter().copied().collect::<Vec<_>>();
    assert!(of("settings.rs").contains(&"faults/plan.rs"));
    assert!(of("faults/inject.rs").contains(&"deps/database/mod.rs"));
    assert!(of("deps/database/mod.rs").contains(&"settings.rs"));
    // By `super`, in a macro's tokens, and by a path that is written out.
    assert!(of("deps/database/sqlite.rs").contains(&"deps/database/queries.rs"));
    assert!(of("deps/database/queries.rs").contains(&"deps/database/statements.rs"));
    assert!(of("faults/plan.rs").contains(&"whole.rs"));
}

#[test]
fn no_two_files_need_each_other_in_a_circle() {
    let mut found = BTreeMap::new();
    for of in crates() {
        let circles: Vec<Vec<String>> = circles(&of.needs())
            .into_iter()
            .map(|circle| circle.into_iter().map(str::to_owned).collect())
            .collect();
        if !circles.is_empty() {
            found.insert(of.directory, circles);
        }
    }
    assert!(found.is_empty(), "{found:#?}");
}

#[test]
fn arrows_between_folders_point_down_only() {
    // From the top to the bottom; what is not named may be used by all, and is held by the rule of circles alone.
    let orders: [(&str, &[&str]); 2] = [
        (
            "",
            &[
                "server",
                "routes",
                "jobs",
                "faults/inject",
                "limits",
                "deps",
                "error",
                "instruments",
                "settings",
                "faults/plan",
                "whole",
            ],
        ),
        ("telemetry", &["http", "signals", "pipeline", "base"]),
    ];
    for (directory, order) in orders {
        let of = parse(directory.to_owned());
        let place = |file: &str| {
            let module = file.trim_end_matches(".rs").trim_end_matches("/mod");
            order.iter().position(|folder| {
                module
                    .strip_prefix(folder)
                    .is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
            })
        };
        for folder in order {
            assert!(
                of.files
                    .iter()
                    .any(|file| place(&file.name) == order.iter().position(|f| f == folder)),
                "{folder}"
            );
        }
        for (file, needs) in of.needs() {
            for need in needs {
                if let (Some(from), Some(to)) = (place(file), place(need)) {
                    assert!(
                        from <= to,
                        "{directory}: {file} needs {need}, which stands above it"
                    );
                }
            }
        }
    }
}

#[test]
fn only_settings_read_the_environment() {
    // What may: the settings of each. The rest hand the environment on to programs that they start.
    let allowed = [
        ("", "settings.rs"),
        ("telemetry", "base/settings.rs"),
        ("telemetry", "base/variables.rs"),
        ("lens", "settings.rs"),
        ("ctl", "demo/mod.rs"),
        ("ctl", "stack/doctor/logins.rs"),
        ("ctl", "stack/parts.rs"),
        ("shop", "settings.rs"),
    ];
    let readers = ["var", "var_os", "vars", "vars_os", "set_var", "remove_var"];
    for of in crates() {
        for file in &of.files {
            let reads = file.paths.iter().any(|named| {
                let path: Vec<&str> = named.segments.iter().map(String::as_str).collect();
                let by_std = path
                    .windows(2)
                    .any(|pair| pair[0] == "env" && readers.contains(&pair[1]));
                by_std || ["option_env", "dotenv", "dotenvy"].contains(&path[0])
            });
            let may = allowed.contains(&(of.directory.as_str(), file.name.as_str()));
            assert!(
                !reads || may,
                "{}/src/{} reads the environment",
                of.directory,
                file.name
            );
        }
    }
}

#[test]
fn only_the_catalogue_of_instruments_names_opentelemetry() {
    let sdk = [
        "opentelemetry",
        "opentelemetry_sdk",
        "opentelemetry_otlp",
        "opentelemetry_proto",
        "opentelemetry_http",
        "tracing_opentelemetry",
        "tracing_subscriber",
        "pyroscope",
    ];
    for file in parse(String::new()).files {
        let named = file.paths.iter().map(|named| named.segments[0].as_str());
        let named: BTreeSet<&str> = named.filter(|first| sdk.contains(first)).collect();
        let expected: &[&str] = match file.name.as_str() {
            "instruments.rs" => &["opentelemetry"],
            _ => &[],
        };
        assert_eq!(named, expected.iter().copied().collect(), "{}", file.name);
    }
}

#[test]
fn attributes_of_our_own_metrics_are_declared_and_closed() {
    let closed = [
        "db.system.name",
        "db.namespace",
        "db.operation.name",
        "db.collection.name",
        "db.query.summary",
        "db.client.connection.pool.name",
        "db.client.connection.state",
        "server.address",
        "server.port",
        "error.type",
        "messaging.system",
        "messaging.operation.name",
        "messaging.operation.type",
        "messaging.destination.name",
        "signalbox.cache.backend",
        "signalbox.cache.operation",
        "signalbox.cache.result",
        "signalbox.product.category",
        "signalbox.limit",
        "signalbox.fault.kind",
        "signalbox.dependency.name",
    ];
    for metric in signalbox::instruments::CATALOGUE {
        for attribute in metric.attributes {
            assert!(
                closed.contains(attribute),
                "{attribute} of {} is no closed set",
                metric.name
            );
        }
        assert!(
            !metric.help.is_empty() && !metric.unit.is_empty(),
            "{}",
            metric.name
        );
    }
}

#[test]
fn main_is_a_table_of_contents() {
    let main = fs::read_to_string(workspace().join("src/main.rs")).expect("text");
    assert!(main.lines().count() <= 60);
}

/// Finds what panics on purpose, or prints where only telemetry should speak.
#[derive(Default)]
struct Panics(Vec<String>);

impl<'ast> Visit<'ast> for Panics {
    fn visit_item_mod(&mut self, item: &'ast syn::ItemMod) {
        if !is_test(&item.attrs) {
            visit::visit_item_mod(self, item);
        }
    }

    fn visit_expr_method_call(&mut self, call: &'ast syn::ExprMethodCall) {
        if call.method == "unwrap" || call.method == "expect" {
            self.0.push(format!(".{}()", call.method));
        }
        visit::visit_expr_method_call(self, call);
    }

    fn visit_macro(&mut self, item: &'ast syn::Macro) {
        let name = item
            .path
            .segments
            .last()
            .map(|segment| segment.ident.to_string());
        let name = name.unwrap_or_default();
        if [
            "panic",
            "todo",
            "unimplemented",
            "unreachable",
            "dbg",
            "println",
            "print",
        ]
        .contains(&name.as_str())
        {
            self.0.push(format!("{name}!"));
        }
    }
}

#[test]
fn nothing_in_production_panics_on_purpose() {
    for directory in ["", "telemetry"] {
        for file in parse(directory.to_owned()).files {
            if file.name == "testing.rs" {
                continue;
            }
            let path = workspace().join(directory).join("src").join(&file.name);
            let tree = syn::parse_file(&fs::read_to_string(path).expect("text")).expect("Rust");
            let mut found = Panics::default();
            found.visit_file(&tree);
            assert!(
                found.0.is_empty(),
                "{directory}/src/{}: {:?}",
                file.name,
                found.0
            );
        }
    }
}
