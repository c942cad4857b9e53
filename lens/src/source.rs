//! From a frame of a profile to the line of source that it stands for.
//!
//! Frames carry the base name of a file, a line, and the function's path; of what is inlined only its name. Files are the Rust sources that the
//! programs were compiled of, as cargo's dep-info says (`target/debug/NAME.d`), and of those only the ones in one checkout: nothing else is ever read.

use std::collections::{BTreeSet, HashMap};
use std::path::{Path, PathBuf};

/// Files larger than this are not shown, and dep-info larger than this is not read.
const MOST_BYTES: u64 = 1024 * 1024;
const MOST_FILES: usize = 5000;

/// The sources of a checkout.
#[derive(Clone, Debug, Default)]
pub struct Sources {
    root: PathBuf,
    files: Vec<File>,
    /// `LENS_SOURCE_URL`
    template: String,
    commit: String,
}

#[derive(Clone, Debug)]
struct File {
    /// From the root of the checkout, with `/`.
    path: String,
    /// Name of its crate as in paths of functions.
    krate: String,
    /// Its module's path inside the crate: `routes::demo::cpu`.
    module: String,
    /// Line and name of each function, in the order of the lines.
    functions: Vec<(i64, String)>,
}

impl Sources {
    /// The sources under `root` that the programs were compiled of whose dep-info is in the folder `deps`.
    pub fn read(root: &Path, deps: &Path, template: &str) -> Self {
        let Ok(root) = root.canonicalize() else {
            return Self::default();
        };
        let mut crates: HashMap<PathBuf, Option<String>> = HashMap::new();
        let compiled = compiled(&root, deps).into_iter().take(MOST_FILES);
        let files = compiled.filter_map(|path| {
            let inside = path.strip_prefix(&root).ok()?;
            let folder = path
                .ancestors()
                .find(|up| up.join("Cargo.toml").is_file())?;
            let krate = crates
                .entry(folder.to_owned())
                .or_insert_with(|| krate(folder));
            Some(File {
                path: inside.to_str()?.replace('\\', "/"),
                krate: krate.clone()?,
                module: module(path.strip_prefix(folder.join("src")).ok()?)?,
                functions: functions(&text(&path)?),
            })
        });
        Self {
            files: files.collect(),
            commit: commit(&root).unwrap_or_default(),
            template: template.to_owned(),
            root,
        }
    }

    /// Whether there is no checkout.
    pub fn is_empty(&self) -> bool {
        self.files.is_empty()
    }

    /// The file, from the checkout's root, that a function at a line of a file with this base name is in.
    pub fn find(&self, function: &str, base: &str, line: i64) -> Option<&str> {
        let same_base = self
            .files
            .iter()
            .filter(|file| file.path.rsplit('/').next() == Some(base));
        let path = bare(function);
        let found = if let Some((krate, rest)) = path.split_once("::") {
            let krate = krate.to_owned();
            let of_crate = same_base.filter(|file| file.krate == krate);
            let inside = of_crate.filter(|file| {
                file.module.is_empty()
                    || rest
                        .strip_prefix(&file.module)
                        .is_some_and(|rest| rest.starts_with("::"))
            });
            inside.max_by_key(|file| file.module.len())
        } else {
            // Inlined: the function that the line is in must have the name.
            let mut named = same_base.filter(|file| {
                let before = file.functions.partition_point(|(begin, _)| *begin <= line);
                before
                    .checked_sub(1)
                    .is_some_and(|last| file.functions[last].1 == path)
            });
            named.next().filter(|_| named.next().is_none())
        };
        found.map(|file| file.path.as_str())
    }

    /// The lines of a listed file.
    pub fn lines(&self, path: &str) -> Option<Vec<String>> {
        let file = self.files.iter().find(|file| file.path == path)?;
        let listed = self.root.join(&file.path);
        // What has become a link since leads elsewhere.
        let same = listed.canonicalize().is_ok_and(|whole| whole == listed);
        let text = same.then(|| text(&listed))??;
        Some(text.lines().map(str::to_owned).collect())
    }

    /// Where the function begins that a line of a file is in.
    pub fn begin(&self, path: &str, line: i64) -> Option<i64> {
        let file = self.files.iter().find(|file| file.path == path)?;
        let before = file.functions.partition_point(|(begin, _)| *begin <= line);
        Some(file.functions[before.checked_sub(1)?].0)
    }

    /// The address of a line by the template, `None` without one.
    pub fn link(&self, path: &str, line: i64) -> Option<String> {
        if self.template.is_empty() {
            return None;
        }
        let whole = self.root.join(path).to_string_lossy().into_owned();
        let link = self.template.replace("{commit}", &self.commit);
        let link = link.replace("{file}", path).replace("{path}", &whole);
        Some(link.replace("{line}", &line.to_string()))
    }
}

/// The function's path without the brackets, closures and hash around it.
fn bare(function: &str) -> &str {
    let path = function.trim_start_matches(['<', '&', '(', '*']);
    let path = path.trim_start_matches("dyn ").trim_start_matches("mut ");
    let path = path.split([' ', '<', '>', '{']).next().unwrap_or(path);
    path.trim_end_matches("::")
}

/// The Rust files under `root` that dep-info in this folder names, links resolved. A line of it is `program: source source …`, with `\ ` for a space.
fn compiled(root: &Path, deps: &Path) -> BTreeSet<PathBuf> {
    let mut found = BTreeSet::new();
    for entry in std::fs::read_dir(deps).into_iter().flatten().flatten() {
        let is_dep_info = entry.path().extension().is_some_and(|end| end == "d");
        let listed = is_dep_info
            .then(|| text(&entry.path()))
            .flatten()
            .unwrap_or_default();
        let spaced = listed.replace("\\ ", "\0");
        let names = spaced
            .split_ascii_whitespace()
            .filter(|name| name.ends_with(".rs"));
        let whole = names.filter_map(|name| root.join(name.replace('\0', " ")).canonicalize().ok());
        found.extend(whole.filter(|path| path.starts_with(root)));
    }
    found
}

/// The package's name in a folder's manifest, as in paths of functions.
fn krate(folder: &Path) -> Option<String> {
    let manifest = text(&folder.join("Cargo.toml"))?;
    let (_, package) = manifest.split_once("[package]")?;
    let name = package
        .lines()
        .find_map(|line| line.strip_prefix("name = \""))?;
    Some(name.split('"').next()?.replace('-', "_"))
}

/// The module that a file under `src` is.
fn module(path: &Path) -> Option<String> {
    let stem = path.with_extension("");
    let mut parts: Vec<&str> = stem
        .iter()
        .map(|part| part.to_str())
        .collect::<Option<_>>()?;
    parts.pop_if(|last| ["mod", "lib", "main"].contains(last));
    Some(parts.join("::"))
}

fn text(path: &Path) -> Option<String> {
    let small = std::fs::metadata(path).ok()?.len() <= MOST_BYTES;
    small.then(|| std::fs::read_to_string(path).ok()).flatten()
}

/// Line and name of each `fn`.
fn functions(text: &str) -> Vec<(i64, String)> {
    let name = |line: &str| {
        let (before, after) = line.split_once("fn ")?;
        let modifiers = [
            "pub",
            "async",
            "const",
            "unsafe",
            "extern",
            "pub(crate)",
            "pub(super)",
            "\"C\"",
        ];
        let all_modifiers = before
            .split_whitespace()
            .all(|word| modifiers.contains(&word));
        let name: String = after
            .chars()
            .take_while(|letter| letter.is_alphanumeric() || *letter == '_')
            .collect();
        (all_modifiers && !name.is_empty()).then_some(name)
    };
    let numbered = (1..).zip(text.lines());
    numbered
        .filter_map(|(number, line)| Some((number, name(line)?)))
        .collect()
}

/// The commit that is checked out.
fn commit(root: &Path) -> Option<String> {
    let mut git = root.join(".git");
    if let Ok(pointer) = std::fs::read_to_string(&git) {
        git = root.join(pointer.trim().strip_prefix("gitdir: ")?);
    }
    let head = std::fs::read_to_string(git.join("HEAD")).ok()?;
    let Some(reference) = head.trim().strip_prefix("ref: ") else {
        return Some(head.trim().to_owned());
    };
    // A worktree has its own HEAD and shares the references.
    let common = std::fs::read_to_string(git.join("commondir"))
        .map_or(git.clone(), |common| git.join(common.trim()));
    let commit = [&git, &common]
        .into_iter()
        .find_map(|git| std::fs::read_to_string(git.join(reference)).ok())?;
    Some(commit.trim().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn checkout() -> tempfile::TempDir {
        let root = tempfile::tempdir().expect("a directory");
        for (path, text) in [
            ("Cargo.toml", "[package]\nname = \"shop-api\"\n"),
            ("src/lib.rs", "mod routes;\n"),
            ("src/routes/mod.rs", "pub fn all() {}\n"),
            (
                "src/routes/cpu.rs",
                "//! work\npub fn burn(x: u64) -> u64 {\n    mix(x)\n}\n\nfn mix(x: u64) -> u64 {\n    x * 31\n}\n",
            ),
            ("src/deps/mod.rs", "fn mix() {}\n"),
            ("tool/Cargo.toml", "[package]\nname = \"tool\"\n"),
            ("tool/src/main.rs", "fn main() {}\n"),
            (".git/HEAD", "ref: refs/heads/main\n"),
            (".git/refs/heads/main", "c0ffee\n"),
            ("secret.txt", "no source"),
            ("src/unused.rs", "fn unused() {}\n"),
            (
                "target/debug/shop-api.d",
                "ROOT/target/debug/shop-api: ROOT/src/lib.rs ROOT/src/routes/mod.rs ROOT/src/routes/cpu.rs ROOT/src/deps/mod.rs \
                 ROOT/src/a\\ b.rs ROOT/secret.txt ROOT/src/stolen.rs ROOT/src/gone.rs /etc/hostname.rs\n",
            ),
            ("src/a b.rs", "fn spaced() {}\n"),
            ("target/debug/tool.d", "tool: tool/src/main.rs\n"),
            ("target/debug/note.txt", "tool: src/unused.rs\n"),
        ] {
            let path = root.path().join(path);
            std::fs::create_dir_all(path.parent().expect("a folder")).expect("a folder");
            let text = text.replace("ROOT", root.path().to_str().expect("a name"));
            std::fs::write(path, text).expect("a file");
        }
        root
    }

    #[test]
    fn a_frame_leads_to_its_file() {
        let root = checkout();
        let template = "https://git.example/{commit}/{file}#L{line}";
        let sources = Sources::read(root.path(), &root.path().join("target/debug"), template);
        let cpu = "src/routes/cpu.rs";
        for (function, base, line, path) in [
            ("shop_api::routes::cpu::burn", "cpu.rs", 3, cpu),
            ("shop_api::routes::cpu::burn::{closure#0}", "cpu.rs", 3, cpu),
            ("<shop_api::routes::cpu::Y as core::X>::f", "cpu.rs", 3, cpu),
            ("shop_api::routes::all", "mod.rs", 1, "src/routes/mod.rs"),
            ("mix", "cpu.rs", 7, cpu),
            ("mix", "mod.rs", 1, "src/deps/mod.rs"),
            ("mix", "cpu.rs", 3, ""), // that line is another function's
            ("next", "mod.rs", 1, ""),
            ("core::iter::cpu::burn", "cpu.rs", 3, ""),
            ("tool::main", "main.rs", 1, "tool/src/main.rs"),
            ("spaced", "a b.rs", 1, "src/a b.rs"),
            ("shop_api::unused::unused", "unused.rs", 1, ""), // not compiled
            ("unused", "unused.rs", 1, ""),
        ] {
            let found = sources.find(function, base, line).unwrap_or_default();
            assert_eq!(found, path, "{function} {base}:{line}");
        }
        assert_eq!(sources.lines(cpu).expect("lines")[6], "    x * 31");
        assert_eq!(sources.begin(cpu, 7), Some(6));
        let link = "https://git.example/c0ffee/src/routes/cpu.rs#L7";
        assert_eq!(sources.link(cpu, 7).as_deref(), Some(link));
    }

    #[test]
    fn nothing_else_is_ever_read() {
        let root = checkout();
        let other = tempfile::tempdir().expect("a directory");
        std::fs::write(other.path().join("stolen.rs"), "fn secret() {}").expect("a file");
        std::os::unix::fs::symlink(
            other.path().join("stolen.rs"),
            root.path().join("src/stolen.rs"),
        )
        .expect("a link");
        let sources = Sources::read(root.path(), &root.path().join("target/debug"), "");
        for path in [
            "secret.txt",
            "../secret.txt",
            "/etc/passwd",
            "src/../secret.txt",
            "src/stolen.rs",
            "src/none.rs",
            "src/unused.rs",
            "/etc/hostname.rs",
        ] {
            assert_eq!(sources.lines(path), None, "{path}");
        }
        // A listed file that becomes a link leads nowhere either.
        std::fs::remove_file(root.path().join("src/lib.rs")).expect("it is there");
        std::os::unix::fs::symlink(
            other.path().join("stolen.rs"),
            root.path().join("src/lib.rs"),
        )
        .expect("a link");
        assert_eq!(sources.lines("src/lib.rs"), None);
        assert_eq!(sources.link("src/lib.rs", 1), None, "no template, no link");
    }
}
