//! PostgreSQL for tests: one cluster per test binary, which ends with it however it ends, and each test has a database
//! to itself, since advisory locks and notifications belong to the database. Without PostgreSQL on the machine this says
//! so, and fails if it was demanded: nothing is skipped in silence.

use std::{
    env, fs,
    io::{self, Write},
    os::unix::{
        fs::{MetadataExt, chown},
        process::CommandExt,
    },
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::Mutex,
    time::Duration,
};

use sqlx::{AssertSqlSafe, Connection, Executor, PgConnection};
use tokio::{sync::OnceCell, time};
use uuid::Uuid;

const NOBODY: u32 = 65534;
/// Debian keeps the binaries of each major version in `<version>/bin` below this.
const DEBIAN: &str = "/usr/lib/postgresql";

/// Ends the server when its standard input closes: the kernel does that when the test process is gone.
const KEEPER: &str = r#"
"$1/postgres" -D "$2/data" -k "$2" -c listen_addresses= -c max_connections=300 -c shared_buffers=64MB \
  -c "$3" >"$2/log" 2>&1 &
server=$!
cat >/dev/null
kill -QUIT $server; wait $server; rm -rf "$2""#;

/// Deletes every row but those that say which schema this is, and for whom. TRUNCATE would wait for the disk, table by table.
const EMPTY: &str = r#"
DO $$ DECLARE name text; BEGIN
    FOR name IN SELECT tablename FROM pg_tables WHERE schemaname = 'public' AND tablename NOT IN ('seaql_migrations', 'schema_floor') LOOP
        EXECUTE format('DELETE FROM %I', name);
    END LOOP;
END $$"#;

/// Whom a server connects as: an ordinary user, who owns its database and may make neither roles nor databases.
const USER: &str = "heedwell";
/// Who may do everything, and sees all rows.
const SUPERUSER: &str = "postgres";

struct Cluster {
    _keeper: Child,
    url: String,
    folder: PathBuf,
}

static CLUSTER: OnceCell<Option<Cluster>> = OnceCell::const_new();

/// Databases of tests that went well, emptied, for the tests to come: to make one takes up to a second with `fsync` on.
static SPARE: Mutex<Vec<Database>> = Mutex::new(Vec::new());

/// A database that one test at a time has.
pub(crate) struct Database {
    pub(crate) url: String,
}

impl Database {
    /// One without rows, maybe with a schema. Unset when there is no PostgreSQL and none was demanded.
    pub(crate) async fn take() -> Option<Self> {
        let spare = SPARE.lock().unwrap().pop();
        if spare.is_some() { spare } else { Self::create().await }
    }

    /// One without anything.
    pub(crate) async fn create() -> Option<Self> {
        let (maintenance, owner) = match env::var("HEEDWELL_TEST_POSTGRES") {
            Ok(url) => (url, String::new()),
            Err(_) => (CLUSTER.get_or_init(careful).await.as_ref()?.url.clone(), format!("OWNER {USER}")),
        };
        let name = format!("t_{}", Uuid::new_v4().simple());
        let mut connection = connect(&maintenance).await;
        connection.execute(AssertSqlSafe(format!("CREATE DATABASE {name} {owner}"))).await.unwrap();
        connection.close().await.unwrap();
        let (head, tail) = maintenance.rsplit_once("/postgres").unwrap_or((&maintenance, ""));
        let url = format!("{head}/{name}{tail}");
        Some(Self { url: if owner.is_empty() { url } else { as_user(&url, SUPERUSER, USER) } })
    }

    /// Leaves it to a test to come. A test that failed does not get here: its rows stay to be looked at.
    pub(crate) async fn give_back(self) {
        let mut connection = connect(&unbound(&self.url)).await;
        connection.execute(EMPTY).await.unwrap();
        connection.close().await.unwrap();
        SPARE.lock().unwrap().push(self);
    }
}

/// The same database for somebody who is shown the rows of all practices.
pub(crate) fn unbound(url: &str) -> String {
    if env::var("HEEDWELL_TEST_POSTGRES").is_err() {
        return as_user(url, USER, SUPERUSER);
    }
    let separator = if url.contains('?') { '&' } else { '?' };
    format!("{url}{separator}options=-c%20heedwell.engine%3Don")
}

/// The same for somebody whom nothing binds; unset in a cluster that is not ours.
pub(crate) fn as_superuser(url: &str) -> Option<String> {
    env::var("HEEDWELL_TEST_POSTGRES").is_err().then(|| as_user(url, USER, SUPERUSER))
}

fn as_user(url: &str, one: &str, other: &str) -> String {
    url.replacen(&format!("postgres://{one}@"), &format!("postgres://{other}@"), 1)
}

/// A database as `pg_dump` writes it.
pub(crate) fn dump(url: &str) -> Vec<u8> {
    let program = binaries().unwrap().join("pg_dump");
    let done = Command::new(program).arg(unbound(url)).output().unwrap();
    assert!(done.status.success() && done.stdout.len() > 10_000, "{}", String::from_utf8_lossy(&done.stderr));
    done.stdout
}

/// Runs what `pg_dump` wrote in another database.
pub(crate) fn restore(url: &str, dump: &[u8]) {
    let program = binaries().unwrap().join("psql");
    let mut child = Command::new(program)
        .args(["-q", "-v", "ON_ERROR_STOP=1"])
        .arg(unbound(url))
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(dump).unwrap();
    assert!(child.wait().unwrap().success());
}

/// A server with a setting of its own, such as `fsync=off`; it ends when this is dropped.
pub(crate) struct Apart {
    pub(crate) url: String,
    _cluster: Cluster,
}

impl Apart {
    pub(crate) async fn start(setting: String) -> Option<Self> {
        let cluster = cluster(setting).await?;
        Some(Self { url: cluster.url.clone(), _cluster: cluster })
    }
}

/// A server that writes down each statement before it runs it; it ends when this is dropped.
pub(crate) struct Logging {
    pub(crate) url: String,
    cluster: Cluster,
}

impl Logging {
    pub(crate) async fn start() -> Option<Self> {
        let cluster = cluster("log_statement=all".to_owned()).await?;
        Some(Self { url: cluster.url.clone(), cluster })
    }

    /// How many reads it was asked for so far.
    pub(crate) fn reads(&self) -> usize {
        self.statements(": SELECT ")
    }

    /// What it was asked for so far, in short: the verb, and the table that it is about.
    pub(crate) fn asked(&self) -> Vec<String> {
        let log = fs::read_to_string(self.cluster.folder.join("log")).unwrap();
        let statements = log.lines().filter_map(|line| line.split_once("LOG:  ")?.1.split_once(": "));
        let asked = statements
            .filter(|(how, what)| (*how == "statement" || how.starts_with("execute ")) && !what.contains("set_config"));
        asked.map(|(_, what)| in_short(what)).collect()
    }

    /// How many statements it was asked for so far that have these words.
    pub(crate) fn statements(&self, words: &str) -> usize {
        let log = fs::read_to_string(self.cluster.folder.join("log")).unwrap();
        let read = |line: &&str| line.contains("LOG: ") && line.contains(words);
        // To say for which practice a connection works is to ask for nothing.
        log.lines().filter(read).filter(|line| !line.contains("set_config")).count()
    }
}

fn in_short(statement: &str) -> String {
    let mut words = statement.split_whitespace();
    let verb = words.next().unwrap_or_default();
    let table = match verb {
        "UPDATE" => words.next(),
        "INSERT" | "DELETE" => words.nth(1),
        "SELECT" => words.skip_while(|word| *word != "FROM").nth(1),
        _ => None,
    };
    let table = table.unwrap_or_default().trim_matches(|letter: char| !letter.is_ascii_alphanumeric());
    format!("{verb} {table}").trim_end().to_owned()
}

/// The one for everybody: what guards against power loss is on, since the store refuses to work without it.
async fn careful() -> Option<Cluster> {
    cluster("synchronous_commit=on".to_owned()).await
}

async fn cluster(setting: String) -> Option<Cluster> {
    let Some(bin) = binaries() else {
        say_that_there_is_none();
        return None;
    };
    let started = tokio::task::spawn_blocking(move || start(&bin, &setting)).await.unwrap();
    let cluster = started.unwrap_or_else(|error| panic!("PostgreSQL does not start: {error}"));
    let mut connection = connect(&cluster.url).await;
    connection.execute(AssertSqlSafe(format!("CREATE ROLE {USER} LOGIN"))).await.unwrap();
    connection.close().await.unwrap();
    Some(cluster)
}

#[expect(clippy::print_stderr, reason = "whoever runs the tests must see it")]
fn say_that_there_is_none() {
    assert!(
        env::var("HEEDWELL_TEST_REQUIRE").as_deref() != Ok("postgres"),
        "no PostgreSQL found: install it, or name its folder in HEEDWELL_TEST_PG_BIN"
    );
    eprintln!(
        "NO POSTGRESQL: neither HEEDWELL_TEST_PG_BIN, PATH nor {DEBIAN} has initdb and postgres. \
         The tests named `postgres` test nothing; set HEEDWELL_TEST_REQUIRE=postgres to make that a failure."
    );
}

fn binaries() -> Option<PathBuf> {
    let path = env::var_os("PATH").unwrap_or_default();
    let debian = fs::read_dir(DEBIAN).into_iter().flatten().flatten().map(|entry| entry.path().join("bin"));
    let named = env::var_os("HEEDWELL_TEST_PG_BIN").map(PathBuf::from);
    named.into_iter().chain(env::split_paths(&path)).chain(debian).find_map(|folder| {
        // What is in PATH may be a link, and initdb looks for postgres beside itself.
        let folder = folder.join("initdb").canonicalize().ok()?.parent()?.to_owned();
        folder.join("postgres").exists().then_some(folder)
    })
}

fn command(program: &Path, folder: &Path, root: bool) -> Command {
    let mut command = Command::new(program);
    // In a group of its own, so that Ctrl-C reaches the tests first.
    command.current_dir(folder).process_group(0);
    if root {
        // initdb and postgres refuse root.
        command.uid(NOBODY).gid(NOBODY);
    }
    command
}

fn start(bin: &Path, setting: &str) -> io::Result<Cluster> {
    // The path of a socket has room for 107 bytes: the folder's name is short.
    let folder = tempfile::Builder::new().prefix("hw-pg-").tempdir()?.keep();
    let root = fs::metadata(&folder)?.uid() == 0;
    if root {
        chown(&folder, Some(NOBODY), Some(NOBODY))?;
    }
    let made = command(&bin.join("initdb"), &folder, root)
        .args(["-A", "trust", "-U", SUPERUSER, "-N", "--no-instructions", "-E", "UTF8", "--locale=C.UTF-8", "-D"])
        .arg(folder.join("data"))
        .output()?;
    if !made.status.success() {
        return Err(io::Error::other(String::from_utf8_lossy(&made.stderr).into_owned()));
    }
    let keeper = command(Path::new("sh"), &folder, root)
        .args(["-c", KEEPER, "keeper"])
        .args([bin, &folder])
        .arg(setting)
        .stdin(Stdio::piped())
        .spawn()?;
    let url = format!("postgres://{SUPERUSER}@localhost/postgres?host={}", folder.display());
    Ok(Cluster { _keeper: keeper, url, folder })
}

/// The socket is there before the server answers, so that the first connections may be refused.
async fn connect(url: &str) -> PgConnection {
    let mut tick = time::interval(Duration::from_millis(50));
    let connected = async {
        loop {
            tick.tick().await;
            if let Ok(connection) = PgConnection::connect(url).await {
                return connection;
            }
        }
    };
    time::timeout(Duration::from_secs(20), connected)
        .await
        .unwrap_or_else(|_| panic!("PostgreSQL does not answer within 20 s"))
}
