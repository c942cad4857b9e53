//! The tables: the files of `migrations/`, which are part of the program.
use sqlx::SqlSafeStr;
use sqlx::migrate::{Migration, MigrationType, Migrator};

/// What each database's folder has a file for, in the order in which they are laid over each other: `0001_orders.sql` and so on.
const NAMES: [&str; 3] = ["orders", "products", "write checks"];

pub const SQLITE: [&str; NAMES.len()] = [
    include_str!("../../../migrations/sqlite/0001_orders.sql"),
    include_str!("../../../migrations/sqlite/0002_products.sql"),
    include_str!("../../../migrations/sqlite/0003_write_checks.sql"),
];
pub const POSTGRES: [&str; NAMES.len()] = [
    include_str!("../../../migrations/postgres/0001_orders.sql"),
    include_str!("../../../migrations/postgres/0002_products.sql"),
    include_str!("../../../migrations/postgres/0003_write_checks.sql"),
];
pub const MYSQL: [&str; NAMES.len()] = [
    include_str!("../../../migrations/mysql/0001_orders.sql"),
    include_str!("../../../migrations/mysql/0002_products.sql"),
    include_str!("../../../migrations/mysql/0003_write_checks.sql"),
];

/// What brings a database to the newest of `files`, whichever it has.
pub fn migrator(files: [&'static str; NAMES.len()]) -> Migrator {
    let files = (1..).zip(NAMES.into_iter().zip(files));
    let migrations = files.map(|(version, (name, file))| {
        let kind = MigrationType::Simple;
        Migration::new(version, name.into(), kind, file.into_sql_str(), false)
    });
    Migrator::with_migrations(migrations.collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::path::Path;

    #[test]
    fn every_file_is_part_of_the_program() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("migrations");
        for (database, files) in [("sqlite", SQLITE), ("postgres", POSTGRES), ("mysql", MYSQL)] {
            let folder = root.join(database);
            assert_eq!(fs::read_dir(&folder).unwrap().count(), NAMES.len());
            for migration in migrator(files).iter() {
                let (version, name) = (migration.version, migration.description.replace(' ', "_"));
                let file = folder.join(format!("{version:04}_{name}.sql"));
                assert_eq!(migration.sql.as_str(), fs::read_to_string(file).unwrap());
            }
        }
    }
}
