//! Who refuses the login that stands in `.env`: PostgreSQL, MySQL and Grafana take theirs at the first start and keep it in their volume,
//! so a password that is changed afterwards has no effect there, and who reads the file is refused. Refusals for the login alone are
//! told; who is away is told elsewhere.

use std::time::Duration;

use reqwest::{Client, StatusCode};
use sqlx::error::DatabaseError;
use sqlx::mysql::{MySqlConnectOptions, MySqlSslMode};
use sqlx::postgres::PgConnectOptions;
use sqlx::{ConnectOptions, Error};
use tokio::time::timeout;

/// For one login; the other checks of the doctor have as long.
const PATIENCE: Duration = Duration::from_secs(5);

/// SQLSTATEs of PostgreSQL: no such user or not admitted, wrong password. Number of MySQL's error: access denied.
const POSTGRES_REFUSES: [&str; 2] = ["28000", "28P01"];
const MYSQL_REFUSES: u16 = 1045;

/// What the container is given of `.env`.
#[derive(Debug, Clone)]
pub struct Login {
    host: String,
    user: String,
    password: String,
    database: String,
}

impl Login {
    /// `<name>_USER`, `_PASSWORD` and `_DB`; `None` where the first two are not set: that part does not run.
    fn from_env(name: &str, host: &str) -> Option<Self> {
        let variable = |what| std::env::var(format!("{name}_{what}")).ok();
        Some(Self {
            host: host.to_owned(),
            user: variable("USER")?,
            password: variable("PASSWORD")?,
            database: variable("DB").unwrap_or_default(),
        })
    }
}

/// A sentence for each part that refuses the login of `.env`.
pub async fn refused(client: &Client) -> Vec<String> {
    let mut sentences = Vec::new();
    if let Some(login) = Login::from_env("POSTGRES", "postgres")
        && postgres_refuses(&login, 5432).await
    {
        sentences.push(sentence("postgres", "POSTGRES", "ALTER ROLE in psql"));
    }
    if let Some(login) = Login::from_env("MYSQL", "mysql")
        && mysql_refuses(&login, 3306).await
    {
        sentences.push(sentence("mysql", "MYSQL", "ALTER USER in mysql"));
    }
    if let Some(login) = Login::from_env("GRAFANA", "http://grafana:3000")
        && grafana_refuses(client, &login).await
    {
        let remedy = "`docker compose exec grafana grafana cli admin reset-admin-password`";
        sentences.push(sentence("grafana", "GRAFANA", remedy));
    }
    sentences
}

fn sentence(part: &str, variable: &str, remedy: &str) -> String {
    format!(
        "{part} refuses {variable}_USER with {variable}_PASSWORD of .env: it keeps the login of its first start. \
         Change it there too ({remedy}), or begin anew with `make clean`, which removes the data"
    )
}

async fn postgres_refuses(login: &Login, port: u16) -> bool {
    let options = PgConnectOptions::new_without_pgpass()
        .host(&login.host)
        .port(port)
        .username(&login.user)
        .password(&login.password)
        .database(&login.database);
    let code = |error: &dyn DatabaseError| {
        let code = error.code();
        code.is_some_and(|code| POSTGRES_REFUSES.contains(&code.as_ref()))
    };
    refuses(options.disable_statement_logging(), code).await
}

async fn mysql_refuses(login: &Login, port: u16) -> bool {
    let options = MySqlConnectOptions::new()
        .host(&login.host)
        .port(port)
        .username(&login.user)
        .password(&login.password)
        .database(&login.database)
        .ssl_mode(MySqlSslMode::Preferred);
    let code = |error: &dyn DatabaseError| {
        let error = error.try_downcast_ref::<sqlx::mysql::MySqlDatabaseError>();
        error.is_some_and(|error| error.number() == MYSQL_REFUSES)
    };
    refuses(options.disable_statement_logging(), code).await
}

/// Whether the server is there and turns the login away.
async fn refuses<O: ConnectOptions>(
    options: O,
    for_login: impl Fn(&dyn DatabaseError) -> bool,
) -> bool
where
    O::Connection: Sized,
{
    match timeout(PATIENCE, options.connect()).await {
        Ok(Err(Error::Database(error))) => for_login(error.as_ref()),
        _ => false,
    }
}

async fn grafana_refuses(client: &Client, login: &Login) -> bool {
    let asked = client
        .get(format!("{}/api/user", login.host))
        .basic_auth(&login.user, Some(&login.password))
        .send();
    asked
        .await
        .is_ok_and(|answer| answer.status() == StatusCode::UNAUTHORIZED)
}

#[cfg(test)]
mod tests {
    use std::error::Error;
    use std::path::{Path, PathBuf};
    use std::process::{Child, Command, Output, Stdio};

    use tempfile::TempDir;

    use super::*;

    /// A real PostgreSQL that asks for a password, on a free port and with the first login it was given.
    struct Postgres {
        server: Child,
        port: u16,
        _directory: TempDir,
    }

    impl Postgres {
        fn start(password: &str) -> Result<Option<Self>, Box<dyn Error>> {
            let Some(programs) = programs() else {
                assert_ne!(
                    std::env::var("CI").as_deref(),
                    Ok("true"),
                    "postgresql is not installed: make test-deps"
                );
                eprintln!("skipped: postgresql is not installed; `make test-deps` adds it");
                return Ok(None);
            };
            let port = std::net::TcpListener::bind("127.0.0.1:0")?
                .local_addr()?
                .port();
            let directory = tempfile::tempdir()?;
            std::fs::write(directory.path().join("password"), password)?;
            if nix::unistd::geteuid().is_root() {
                let owned = Command::new("chown")
                    .args(["-R", "postgres"])
                    .arg(directory.path())
                    .status()?;
                assert!(owned.success());
            }
            let mut initdb = as_postgres(&programs.join("initdb"), directory.path());
            initdb.args([
                "--auth=scram-sha-256",
                "--username=signalbox",
                "--pwfile=password",
                "--no-sync",
                "-D",
                "data",
            ]);
            let Output { status, stderr, .. } = initdb.output()?;
            assert!(status.success(), "{}", String::from_utf8_lossy(&stderr));
            let mut server = as_postgres(&programs.join("postgres"), directory.path());
            server.args([
                "-D",
                "data",
                "-c",
                "listen_addresses=127.0.0.1",
                "-c",
                "unix_socket_directories=",
                "-c",
                "fsync=off",
            ]);
            let server = server
                .args(["-p", &port.to_string()])
                .stdout(Stdio::null())
                .stderr(Stdio::null())
                .spawn()?;
            Ok(Some(Self {
                server,
                port,
                _directory: directory,
            }))
        }
    }

    impl Drop for Postgres {
        fn drop(&mut self) {
            let _ = self.server.kill();
            let _ = self.server.wait();
        }
    }

    fn programs() -> Option<PathBuf> {
        let versions = std::fs::read_dir("/usr/lib/postgresql").ok()?;
        versions
            .flatten()
            .map(|version| version.path().join("bin"))
            .find(|bin| bin.join("initdb").exists())
    }

    /// Database servers refuse to run as root.
    fn as_postgres(program: &Path, directory: &Path) -> Command {
        as_user("postgres", program, directory)
    }

    fn as_user(user: &str, program: &Path, directory: &Path) -> Command {
        let mut command = Command::new(program);
        if nix::unistd::geteuid().is_root() {
            command = Command::new("setpriv");
            command
                .args([&format!("--reuid={user}"), &format!("--regid={user}")])
                .arg("--clear-groups")
                .arg(program);
        }
        command.current_dir(directory);
        command
    }

    #[tokio::test]
    async fn a_password_that_was_changed_after_the_first_start_is_refused()
    -> Result<(), Box<dyn Error>> {
        let Some(server) = Postgres::start("first")? else {
            return Ok(());
        };
        let login = |password: &str| Login {
            host: "127.0.0.1".into(),
            user: "signalbox".into(),
            password: password.into(),
            database: "postgres".into(),
        };
        // While it starts it refuses nobody for the login.
        for _ in 0..600 {
            if postgres_refuses(&login("changed"), server.port).await {
                break;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        assert!(postgres_refuses(&login("changed"), server.port).await);
        assert!(!postgres_refuses(&login("first"), server.port).await);
        let nobody = Login {
            user: "nobody".into(),
            ..login("first")
        };
        assert!(postgres_refuses(&nobody, server.port).await);
        // Another kind of trouble, which is told elsewhere.
        let no_database = Login {
            database: "nothing".into(),
            ..login("first")
        };
        assert!(!postgres_refuses(&no_database, server.port).await);
        Ok(())
    }

    /// A real MariaDB, which refuses a login with MySQL's number, with the first login it was given.
    struct MariaDb {
        server: Child,
        directory: PathBuf,
        port: u16,
    }

    impl MariaDb {
        const PROGRAM: &str = "/usr/sbin/mariadbd";

        fn start(password: &str) -> Result<Option<Self>, Box<dyn Error>> {
            if !Path::new(Self::PROGRAM).exists() {
                assert_ne!(
                    std::env::var("CI").as_deref(),
                    Ok("true"),
                    "mariadb-server is not installed: make test-deps"
                );
                eprintln!("skipped: mariadb-server is not installed; `make test-deps` adds it");
                return Ok(None);
            }
            let port = std::net::TcpListener::bind("127.0.0.1:0")?
                .local_addr()?
                .port();
            let directory = std::env::temp_dir().join(format!("signalboxctl-logins-{port}"));
            std::fs::create_dir_all(&directory)?;
            std::fs::write(
                directory.join("init.sql"),
                format!(
                    "CREATE DATABASE signalbox;\nCREATE USER signalbox IDENTIFIED BY '{password}';\nGRANT ALL ON signalbox.* TO signalbox;\n"
                ),
            )?;
            if nix::unistd::geteuid().is_root() {
                let owned = Command::new("chown")
                    .args(["-R", "mysql"])
                    .arg(&directory)
                    .status()?;
                assert!(owned.success());
            }
            let data = format!("--datadir={}", directory.join("data").display());
            let Output { status, stderr, .. } = as_user(
                "mysql",
                Path::new("/usr/bin/mariadb-install-db"),
                &directory,
            )
            .args(["--no-defaults", "--skip-test-db", &data])
            .output()?;
            assert!(status.success(), "{}", String::from_utf8_lossy(&stderr));
            let server = as_user("mysql", Path::new(Self::PROGRAM), &directory)
                .args(["--no-defaults", "--bind-address=127.0.0.1", &data])
                .arg(format!("--port={port}"))
                .arg(format!("--socket={}", directory.join("socket").display()))
                .arg(format!(
                    "--init-file={}",
                    directory.join("init.sql").display()
                ))
                .stdout(Stdio::null())
                .stderr(Stdio::null())
                .spawn()?;
            Ok(Some(Self {
                server,
                directory,
                port,
            }))
        }
    }

    impl Drop for MariaDb {
        fn drop(&mut self) {
            let _ = self.server.kill();
            let _ = self.server.wait();
            let _ = std::fs::remove_dir_all(&self.directory);
        }
    }

    #[tokio::test]
    async fn a_changed_password_of_mysql_is_refused() -> Result<(), Box<dyn Error>> {
        let Some(server) = MariaDb::start("first")? else {
            return Ok(());
        };
        let login = |password: &str| Login {
            host: "127.0.0.1".into(),
            user: "signalbox".into(),
            password: password.into(),
            database: "signalbox".into(),
        };
        for _ in 0..600 {
            if mysql_refuses(&login("changed"), server.port).await {
                break;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        assert!(mysql_refuses(&login("changed"), server.port).await);
        assert!(!mysql_refuses(&login("first"), server.port).await);
        let nobody = Login {
            user: "nobody".into(),
            ..login("first")
        };
        assert!(mysql_refuses(&nobody, server.port).await);
        // Another kind of trouble, which is told elsewhere.
        let no_database = Login {
            database: "nothing".into(),
            ..login("first")
        };
        assert!(!mysql_refuses(&no_database, server.port).await);
        Ok(())
    }

    #[tokio::test]
    async fn a_changed_password_of_grafana_is_refused() -> Result<(), Box<dyn Error>> {
        use crate::http::testing::{answer, answering};
        crate::http::install_tls_provider();
        let client = crate::http::client(PATIENCE, 1)?;
        // As Grafana 12.3 answers a wrong password, the right one, and while it starts.
        let wrong = r#"{"message":"Invalid username or password","messageId":"password-auth.failed","statusCode":401}"#;
        for (status, body, refused) in [
            ("401 Unauthorized", wrong, true),
            ("200 OK", r#"{"id":1,"login":"admin"}"#, false),
            ("503 Service Unavailable", "", false),
        ] {
            let login = Login {
                host: answering(answer(status, body)).await?,
                user: "admin".into(),
                password: "changed".into(),
                database: String::new(),
            };
            assert_eq!(grafana_refuses(&client, &login).await, refused, "{status}");
        }
        Ok(())
    }

    #[tokio::test]
    async fn who_is_away_refuses_nobody() -> Result<(), Box<dyn Error>> {
        let free = std::net::TcpListener::bind("127.0.0.1:0")?.local_addr()?;
        let login = Login {
            host: "127.0.0.1".into(),
            user: "u".into(),
            password: "p".into(),
            database: String::new(),
        };
        assert!(!postgres_refuses(&login, free.port()).await);
        assert!(!mysql_refuses(&login, free.port()).await);
        crate::http::install_tls_provider();
        let client = crate::http::client(PATIENCE, 1)?;
        let grafana = Login {
            host: format!("http://{free}"),
            ..login
        };
        assert!(!grafana_refuses(&client, &grafana).await);
        Ok(())
    }

    #[test]
    fn a_sentence_names_part_variable_and_remedy() {
        let said = sentence("postgres", "POSTGRES", "ALTER ROLE in psql");
        for word in [
            "postgres refuses",
            "POSTGRES_PASSWORD",
            "ALTER ROLE",
            "make clean",
        ] {
            assert!(said.contains(word), "{said}");
        }
    }
}
