//! The real program.

use super::{Measured, client};
use reqwest::blocking::{Client, Response};
use serde_json::Value;
use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::sync::mpsc;
use std::time::{Duration, Instant};

/// The only variables of the tests' environment that the program sees: settings of the machine must not change a test.
const KEPT_VARIABLES: [&str; 6] = ["PATH", "HOME", "TMPDIR", "IFR_ISA", "IFR_ENGINE", "RUST_BACKTRACE"];

/// `ifr` with these arguments.
pub fn command(arguments: &[&str]) -> Command {
    let mut command = isolated(env!("CARGO_BIN_EXE_ifr"));
    command.args(arguments);
    command
}

/// Runs `ifr` to its end.
pub fn ifr(arguments: &[&str]) -> Output {
    command(arguments).output().unwrap()
}

/// What a process wrote to its standard error.
pub fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// A command without the tests' environment.
fn isolated(program: &str) -> Command {
    let mut command = Command::new(program);
    command.env_clear();
    command.envs(KEPT_VARIABLES.iter().filter_map(|name| Some((name, std::env::var_os(name)?))));
    command
}

/// `ifr serve` as a process: its log lines and its address. Killed when dropped.
pub struct Program {
    child: Child,
    client: Client,
    log: mpsc::Receiver<String>,
    pub address: SocketAddr,
}

impl Program {
    /// Starts with these settings; returns when the models are loaded.
    pub fn start(settings: &[(&str, &str)]) -> Program {
        let program = Program::launch(command(&["serve"]), &[&[("MAX_SIZE", "320,320")], settings].concat());
        program.line("ready");
        program
    }

    /// Starts with these settings and a models directory; returns when the program listens.
    pub fn with_models(directory: &Path, settings: &[(&str, &str)]) -> Program {
        let directory = [("MODELS_DIR", directory.to_str().unwrap()), ("MAX_SIZE", "128,128")];
        Program::launch(command(&["serve"]), &[&directory[..], settings].concat())
    }

    /// Like `with_models`, with settings of models in a file; variables win over the file.
    pub fn with_env_file(directory: &Path, file: &Path, settings: &[(&str, &str)]) -> Program {
        let mut command = command(&["serve", "--env-file"]);
        command.arg(file).env("MODELS_DIR", directory);
        Program::launch(command, settings)
    }

    /// Like `start`, but by a shell script that ends in `exec "$0" serve`.
    pub fn start_by_shell(script: &str, settings: &[(&str, &str)]) -> Program {
        let mut command = isolated("/bin/sh");
        command.args(["-c", script, env!("CARGO_BIN_EXE_ifr")]);
        let program = Program::launch(command, settings);
        program.line("ready");
        program
    }

    fn launch(mut command: Command, settings: &[(&str, &str)]) -> Program {
        command.envs([("HOST", "127.0.0.1"), ("PORT", "0"), ("LOG_FORMAT", "json")]);
        command.envs(settings.iter().copied());
        let mut child = command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
        let stderr = BufReader::new(child.stderr.take().unwrap());
        let (sender, log) = mpsc::channel();
        std::thread::spawn(move || {
            for line in stderr.lines().map_while(Result::ok) {
                let _ = sender.send(line);
            }
        });
        let mut program = Program { child, client: client(), log, address: SocketAddr::from(([127, 0, 0, 1], 0)) };
        let listening = program.line("listening");
        program.address = listening["address"].as_str().unwrap().parse().unwrap();
        program
    }

    /// The next line with this message.
    pub fn line(&self, message: &str) -> Value {
        self.find_line(message, |line| line["message"] == message)
    }

    /// The next line that contains this text.
    pub fn line_with(&self, text: &str) -> Value {
        self.find_line(text, |line| line.to_string().contains(text))
    }

    /// The next line that passes `is_right`; `what` names it in the failure. Lines before it are gone.
    pub fn find_line(&self, what: &str, is_right: impl Fn(&Value) -> bool) -> Value {
        let mut seen = String::new();
        loop {
            let wait = self.log.recv_timeout(Duration::from_secs(60));
            let text = wait.unwrap_or_else(|error| panic!("no '{what}' in the log ({error}):\n{seen}"));
            let line = serde_json::from_str(&text).unwrap_or_else(|error| panic!("{text}: {error}"));
            if is_right(&line) {
                return line;
            }
            seen += &(text + "\n");
        }
    }

    pub fn id(&self) -> u32 {
        self.child.id()
    }

    pub fn signal(&self, name: &str) {
        let sent = Command::new("kill").args([name, &self.child.id().to_string()]).status().unwrap();
        assert!(sent.success());
    }

    pub fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    pub fn get(&self, path: &str) -> Response {
        self.client.get(self.url(path)).send().unwrap()
    }

    pub fn post(&self, path: &str, body: &Value) -> Response {
        self.client.post(self.url(path)).json(body).send().unwrap()
    }

    /// Waits for the end. `None` for an end by a signal.
    pub fn exit_code(&mut self, within: Duration) -> Option<i32> {
        let started = Instant::now();
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status.code();
            }
            assert!(started.elapsed() < within, "still running");
            std::thread::sleep(Duration::from_millis(10));
        }
    }
}

/// Requests for the metrics leave no line in the log.
impl Measured for Program {
    fn metrics(&self) -> String {
        self.get("/metrics").text().unwrap()
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        // An error means that it has ended.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
