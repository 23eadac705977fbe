//! Blank values: an option, a variable or a line of a settings file whose value is blank, "None" or "null" has no
//! effect, so that the default applies.
//!
//! Blank values are removed before clap reads them, because Compose files pass all variables on, as `PORT=${PORT:-}`.

use std::collections::HashMap;
use std::ffi::{OsStr, OsString};

use clap::builder::Resettable;
use clap::{Arg, Command};

use crate::parse::is_unset;

/// Settings with a default for which "None" is a value: no recognizer, no origin.
const NONE_IS_A_VALUE: [&str; 2] = ["rec_name", "cors_origins"];

/// True if the default of the argument applies in spite of `value`.
fn leaves_default(argument: &Arg, value: &OsStr) -> bool {
    !NONE_IS_A_VALUE.contains(&argument.get_id().as_str()) && value.to_str().is_some_and(is_unset)
}

/// Changes the command so that its arguments ignore variables with blank values. `variable` returns the value of a
/// variable.
///
/// `file` has the values of a settings file by the names of variables. They replace defaults if the variable is not set
/// at all: a blank variable stands for the built-in default.
pub fn without_blank_variables(
    command: Command,
    variable: &impl Fn(&OsStr) -> Option<OsString>,
    file: &HashMap<String, String>,
) -> Command {
    let names: Vec<String> = command.get_subcommands().map(|c| c.get_name().to_owned()).collect();
    let command = names.into_iter().fold(command, |command, name| {
        command.mut_subcommand(name, |subcommand| without_blank_variables(subcommand, variable, file))
    });
    command.mut_args(|argument| {
        let Some(name) = argument.get_env() else { return argument };
        match (variable(name), name.to_str().and_then(|name| file.get(name))) {
            (Some(value), _) if leaves_default(&argument, &value) => argument.env(Resettable::Reset),
            (None, Some(value)) if !leaves_default(&argument, value.as_ref()) => argument.default_value(value.clone()),
            _ => argument,
        }
    })
}

/// The arguments of `command` with the defaults in place of blank values: `--port ""` and `--port=None` become
/// `--port=18080`.
pub fn with_defaults_for_blank_flags(
    command: &Command,
    arguments: impl IntoIterator<Item = OsString>,
) -> Vec<OsString> {
    let mut arguments = arguments.into_iter().peekable();
    let mut result = vec![];
    while let Some(argument) = arguments.next() {
        let text = argument.to_str().unwrap_or_default();
        let (name, value) = text.split_once('=').map_or((text, None), |(name, value)| (name, Some(value)));
        let flag =
            name.strip_prefix("--").and_then(|name| command.get_arguments().find(|a| a.get_long() == Some(name)));
        let Some(flag) = flag.filter(|flag| flag.get_action().takes_values()) else {
            result.push(argument);
            continue;
        };
        let blank = match value {
            Some(value) => leaves_default(flag, value.as_ref()),
            None => arguments.next_if(|next| leaves_default(flag, next)).is_some(),
        };
        match (blank, flag.get_default_values()) {
            (false, _) => result.push(argument),
            (true, [default]) => result.push([name.as_ref(), "=".as_ref(), default.as_os_str()].into_iter().collect()),
            (true, _) => {}
        }
    }
    result
}

#[cfg(test)]
mod tests {
    use super::*;

    fn command() -> Command {
        Command::new("ifr")
            .arg(Arg::new("port").long("port").env("PORT").default_value("18080"))
            .arg(Arg::new("rec_name").long("rec-name").env("REC_NAME").default_value("own"))
            .arg(Arg::new("file").long("file"))
            .arg(Arg::new("all").long("all").action(clap::ArgAction::SetTrue))
    }

    #[test]
    fn flags_with_blank_values_have_their_defaults() {
        let read = |arguments: &[&str]| with_defaults_for_blank_flags(&command(), arguments.iter().map(OsString::from));
        assert_eq!(
            read(&["ifr", "--port", "", "--port=None", "--port", "null", "x"]),
            ["ifr", "--port=18080", "--port=18080", "--port=18080", "x"]
        );
        for unchanged in [
            &["--port", "1", "--port=2"][..],
            &["--rec-name", "None", "--rec-name="],
            &["--all", "", "--other", "", "--port"],
        ] {
            assert_eq!(read(unchanged), unchanged);
        }
        assert_eq!(read(&["--file", "", "--file="]), [""; 0]);
    }

    #[test]
    fn blank_variables_stand_for_the_built_in_default() {
        let read = |variable: Option<&str>, file: Option<&str>| {
            let file = file.into_iter().map(|value| ("PORT".to_owned(), value.to_owned())).collect();
            let variable = |name: &OsStr| variable.filter(|_| name == "PORT").map(OsString::from);
            let command = without_blank_variables(command(), &variable, &file);
            let port = command.get_arguments().find(|a| a.get_id() == "port").unwrap().clone();
            (port.get_env().is_some(), port.get_default_values()[0].to_str().unwrap().to_owned())
        };
        assert_eq!(read(None, None), (true, "18080".into()));
        assert_eq!(read(Some("1"), Some("2")), (true, "18080".into()), "clap reads the variable");
        assert_eq!(read(None, Some("2")), (true, "2".into()));
        assert_eq!(read(None, Some(" none ")), (true, "18080".into()));
        assert_eq!(read(Some(""), Some("2")), (false, "18080".into()));
    }
}
