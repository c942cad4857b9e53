//! From a frame of a profile to the line of source that it stands for.
//!
//! Frames carry the base name of a file, a line, and the function's path; of what is inlined only its name. Files are those of the crates in one
//! checkout, listed once at start: nothing outside it is ever read, and nothing that is no Rust source of these crates.

use std::path::{Path, PathBuf};

/// Files larger than this are not shown.
const MOST_BYTES: u64 = 1024 * 1024;
const MOST_FILES: usize = 5000;
const DEEPEST_FOLDER: usize = 12;

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
    /// Lists the sources under `root`: those of the crate there, and of the crates in folders of it.
    pub fn read(root: &Path, template: &str) -> Self {
        let Ok(root) = root.canonicalize() else {
            return Self::default();
        };
        let mut sources = Self {
            commit: commit(&root).unwrap_or_default(),
            template: template.to_owned(),
            ..Self::default()
        };
        let mut crates = vec![root.clone()];
        crates.extend(folders(&root));
        for folder in crates {
            let manifest = std::fs::read_to_string(folder.join("Cargo.toml")).unwrap_or_default();
            let package = manifest
                .split_once("[package]")
                .map_or("", |(_, rest)| rest);
            let name = package
                .lines()
                .find_map(|line| line.strip_prefix("name = \""));
            if let Some(name) = name.and_then(|name| name.split('"').next()) {
                sources.list(&root, &folder.join("src"), &name.replace('-', "_"), "", 0);
            }
        }
        sources.root = root;
        sources
    }

    fn list(&mut self, root: &Path, folder: &Path, krate: &str, module: &str, depth: usize) {
        let join = |name: &str| match (module, name) {
            (_, "mod" | "lib" | "main") => module.to_owned(),
            ("", name) => name.to_owned(),
            (module, name) => format!("{module}::{name}"),
        };
        let Ok(entries) = std::fs::read_dir(folder) else {
            return;
        };
        for entry in entries.flatten() {
            // Of a symbolic link this is neither, so that none is followed.
            let Ok(kind) = entry.file_type() else {
                continue;
            };
            let path = entry.path();
            let name = entry.file_name().to_string_lossy().into_owned();
            if kind.is_dir() && depth < DEEPEST_FOLDER {
                self.list(root, &path, krate, &join(&name), depth + 1);
            } else if kind.is_file()
                && self.files.len() < MOST_FILES
                && let Some(stem) = name.strip_suffix(".rs")
            {
                let text = text(&path).unwrap_or_default();
                self.files.push(File {
                    path: path
                        .strip_prefix(root)
                        .unwrap_or(&path)
                        .to_string_lossy()
                        .replace('\\', "/"),
                    krate: krate.to_owned(),
                    module: join(stem),
                    functions: functions(&text),
                });
            }
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
        let whole = self.root.join(&file.path).canonicalize().ok()?;
        let inside = whole.starts_with(&self.root);
        inside
            .then(|| text(&whole))?
            .map(|text| text.lines().map(str::to_owned).collect())
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
        let filled = [
            ("{commit}", &self.commit),
            ("{file}", &path.to_owned()),
            ("{path}", &whole),
            ("{line}", &line.to_string()),
        ];
        Some(
            filled
                .iter()
                .fold(self.template.clone(), |link, (name, value)| {
                    link.replace(name, value)
                }),
        )
    }
}

/// The function's path without the brackets, closures and hash around it.
fn bare(function: &str) -> &str {
    let path = function.trim_start_matches(['<', '&', '(', '*']);
    let path = path.trim_start_matches("dyn ").trim_start_matches("mut ");
    let path = path.split([' ', '<', '>', '{']).next().unwrap_or(path);
    path.trim_end_matches("::")
}

fn folders(root: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(root).into_iter().flatten().flatten();
    let folders = entries.filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()));
    folders.map(|entry| entry.path()).collect()
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
        ] {
            let path = root.path().join(path);
            std::fs::create_dir_all(path.parent().expect("a folder")).expect("a folder");
            std::fs::write(path, text).expect("a file");
        }
        root
    }

    #[test]
    fn a_frame_leads_to_its_file() {
        let root = checkout();
        let sources = Sources::read(root.path(), "https://git.example/{commit}/{file}#L{line}");
        for (function, base, line, path) in [
            (
                "shop_api::routes::cpu::burn",
                "cpu.rs",
                3,
                Some("src/routes/cpu.rs"),
            ),
            (
                "shop_api::routes::cpu::burn::{closure#0}",
                "cpu.rs",
                3,
                Some("src/routes/cpu.rs"),
            ),
            (
                "<shop_api::routes::cpu::Y as core::X>::f",
                "cpu.rs",
                3,
                Some("src/routes/cpu.rs"),
            ),
            (
                "shop_api::routes::all",
                "mod.rs",
                1,
                Some("src/routes/mod.rs"),
            ),
            ("mix", "cpu.rs", 7, Some("src/routes/cpu.rs")),
            ("mix", "mod.rs", 1, Some("src/deps/mod.rs")),
            ("mix", "cpu.rs", 3, None), // that line is another function's
            ("next", "mod.rs", 1, None),
            ("core::iter::cpu::burn", "cpu.rs", 3, None),
            ("tool::main", "main.rs", 1, Some("tool/src/main.rs")),
        ] {
            assert_eq!(
                sources.find(function, base, line),
                path,
                "{function} {base}:{line}"
            );
        }
        assert_eq!(
            sources.lines("src/routes/cpu.rs").expect("lines")[6],
            "    x * 31"
        );
        assert_eq!(sources.begin("src/routes/cpu.rs", 7), Some(6));
        assert_eq!(
            sources.link("src/routes/cpu.rs", 7).as_deref(),
            Some("https://git.example/c0ffee/src/routes/cpu.rs#L7")
        );
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
        let sources = Sources::read(root.path(), "");
        for path in [
            "secret.txt",
            "../secret.txt",
            "/etc/passwd",
            "src/../secret.txt",
            "src/stolen.rs",
            "src/none.rs",
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
