//! The program as a child: a state directory of its own, ports of the system's choice, its log read line by line.

use std::io::{BufRead as _, BufReader, Read};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use serde_json::Value;

/// For what happens at once; long, since machines are busy.
const PATIENCE: Duration = Duration::from_secs(30);

/// A folder for one test: state, configuration, certificates.
pub struct Home(tempfile::TempDir);

impl Home {
    pub fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    pub fn write(&self, name: &str, text: &str) -> PathBuf {
        let path = self.path(name);
        std::fs::write(&path, text).unwrap();
        path
    }

    /// The program, with nothing of this machine's settings.
    pub fn hushgate(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_hushgate"));
        for name in ["HUSHGATE_SET", "STATE_DIRECTORY", "JOURNAL_STREAM", "NO_COLOR", "NOTIFY_SOCKET", "WATCHDOG_USEC"]
        {
            command.env_remove(name);
        }
        command.env("XDG_STATE_HOME", self.0.path()).args(arguments).stdin(Stdio::null());
        command
    }

    /// Runs the program to its end.
    pub fn run(&self, arguments: &[&str]) -> Ended {
        Ended::of(&self.hushgate(arguments).output().unwrap())
    }

    /// Starts `serve` on ports of the system's choice in front of `upstream`.
    pub fn serve(&self, upstream: SocketAddr, more: &[&str]) -> Serving {
        self.serve_in(&[], upstream, more)
    }

    /// The same with these in its environment.
    pub fn serve_in(&self, environment: &[(&str, &str)], upstream: SocketAddr, more: &[&str]) -> Serving {
        let upstream = format!("upstream.servers=[\"udp://{upstream}\"]");
        let mut arguments = vec!["serve", "--set", &upstream, "--set", "upstream.fallback=[]"];
        for set in ANY_PORTS {
            arguments.extend(["--set", set]);
        }
        arguments.extend(more);
        let mut command = self.hushgate(&arguments);
        command.envs(environment.iter().copied());
        Serving::start(command)
    }
}

pub const ANY_PORTS: [&str; 5] = [
    "listen.dns=[\"127.0.0.1:0\"]",
    "listen.dot=[\"127.0.0.1:0\"]",
    "listen.doh=[\"127.0.0.1:0\"]",
    "listen.doq=[\"127.0.0.1:0\"]",
    "admin.listen=[\"127.0.0.1:0\"]",
];

/// What came of a run.
#[derive(Debug)]
pub struct Ended {
    pub code: i32,
    pub output: String,
    pub errors: String,
}

impl Ended {
    fn of(output: &Output) -> Self {
        let text = |octets: &[u8]| String::from_utf8(octets.to_vec()).unwrap();
        Self { code: output.status.code().unwrap(), output: text(&output.stdout), errors: text(&output.stderr) }
    }
}

/// A child that is killed with its test, and what it writes.
pub struct Running {
    child: Child,
    lines: Receiver<String>,
}

impl Running {
    pub fn new(mut child: Child, stream: impl Read + Send + 'static) -> Self {
        child.stdin.take();
        let (sender, lines) = channel();
        std::thread::spawn(move || {
            for line in BufReader::new(stream).lines().map_while(Result::ok) {
                let _ = sender.send(line);
            }
        });
        Self { child, lines }
    }

    pub fn line(&self) -> String {
        self.lines.recv_timeout(PATIENCE).expect("a line of output")
    }

    /// Reads on to the line that holds `part`.
    pub fn until(&self, part: &str) -> String {
        std::iter::repeat_with(|| self.line()).find(|line| line.contains(part)).unwrap()
    }

    pub fn id(&self) -> u32 {
        self.child.id()
    }

    pub fn signal(&self, name: &str) {
        let kill = format!("kill -{name} {}", self.child.id());
        assert!(Command::new("sh").args(["-c", &kill]).status().unwrap().success());
    }

    /// All that it still writes until it has ended.
    pub fn rest(&self) -> Vec<String> {
        std::iter::from_fn(|| self.lines.recv_timeout(PATIENCE).ok()).collect()
    }

    /// How it ended. Its output is read to the end first, which is the event to wait for.
    pub fn end(&mut self) -> ExitStatus {
        while self.lines.recv_timeout(PATIENCE).is_ok() {}
        self.child.wait().unwrap()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// `serve`, with the addresses that its log names.
pub struct Serving {
    pub running: Running,
    pub dns: SocketAddr,
    pub doq: Option<SocketAddr>,
    pub admin: SocketAddr,
    /// What is spoken where, as the log says it.
    pub doors: Vec<(String, SocketAddr)>,
    pub began: Instant,
}

impl Serving {
    fn start(mut command: Command) -> Self {
        let began = Instant::now();
        let mut child = command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
        let stream = child.stderr.take().unwrap();
        let running = Running::new(child, stream);
        let mut doors = Vec::new();
        let admin = loop {
            let line = running.line();
            let Ok(line) = serde_json::from_str::<Value>(&line) else { continue };
            let Some(address) = line["address"].as_str().and_then(|address| address.parse().ok()) else { continue };
            match line["door"].as_str() {
                Some(door) => doors.push((door.to_owned(), address)),
                None => break address,
            }
        };
        let at = |speech: &str| doors.iter().find(|(door, _)| door == speech).map(|(_, address)| *address);
        let dns = at("dns (udp, tcp)").unwrap();
        Self { running, dns, doq: at("doq"), admin, doors, began }
    }
}

/// `demo`, with the facts of its one line.
pub struct Demo {
    pub running: Running,
    pub facts: Value,
}

impl Demo {
    pub fn start(home: &Home) -> Self {
        let mut command = home.hushgate(&["demo", "--json"]);
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
        let stream = child.stdout.take().unwrap();
        let running = Running::new(child, stream);
        let facts = serde_json::from_str(&running.line()).unwrap();
        Self { running, facts }
    }

    pub fn addresses(&self) -> Vec<String> {
        addresses(&self.facts)
    }

    pub fn port(&self, door: &str) -> u16 {
        let doors = self.facts["doors"].as_array().unwrap();
        let row = doors.iter().find(|row| row["door"] == door).unwrap();
        row["address"].as_str().unwrap().parse::<SocketAddr>().unwrap().port()
    }

    pub fn admin(&self) -> &str {
        self.facts["admin"].as_str().unwrap()
    }

    pub fn authority(&self) -> &Path {
        Path::new(self.facts["authority"].as_str().unwrap())
    }
}

/// Where the doors of a demo are.
pub fn addresses(facts: &Value) -> Vec<String> {
    let doors = facts["doors"].as_array().unwrap();
    doors.iter().map(|row| row["address"].as_str().unwrap().to_owned()).collect()
}

/// An address where nobody listens, and what keeps it so: bound, without an ear.
pub fn nobody() -> (socket2::Socket, String) {
    let held = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
    held.bind(&SocketAddr::from(([127, 0, 0, 1], 0)).into()).unwrap();
    let address = held.local_addr().unwrap().as_socket().unwrap();
    (held, address.to_string())
}
