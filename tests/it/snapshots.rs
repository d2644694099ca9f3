//! The faces of the system as committed files, so that a change of one is seen in review:
//! `UPDATE_SNAPSHOTS=1 cargo test -p careforall-tests --test it -- snapshots` writes them anew.

use std::process::Command;

use careforall_tests::program;

use crate::architecture::root;

fn assert_snapshot(path: &str, actual: &str) {
    let file = root().join(path);
    if std::env::var_os("UPDATE_SNAPSHOTS").is_some() {
        std::fs::create_dir_all(file.parent().unwrap()).unwrap();
        return std::fs::write(file, actual).unwrap();
    }
    let committed = std::fs::read_to_string(file).unwrap_or_default();
    let mut lines = committed.lines().zip(actual.lines()).enumerate();
    if let Some((line, (was, is))) = lines.find(|(_, (was, is))| was != is) {
        panic!("{path}:{}: {was:?} is now {is:?}; if it should be, set UPDATE_SNAPSHOTS=1", line + 1);
    }
    assert_eq!(committed, actual, "{path} has another length now; if it should, set UPDATE_SNAPSHOTS=1");
}

#[test]
fn the_description_of_the_api_is_committed() {
    let description = serde_json::to_string_pretty(&careforall::api_description()).unwrap();
    assert_snapshot("docs/openapi.json", &format!("{description}\n"));
}

#[tokio::test]
async fn the_help_of_every_command_is_committed() {
    for name in ["careforall", "replay"] {
        let program = program(name).await;
        let help = |arguments: &[&str]| {
            let output = Command::new(&program).args(arguments).env_clear().output().unwrap();
            assert!(output.status.success(), "{name} {arguments:?}");
            let help = String::from_utf8(output.stdout).unwrap();
            // Empty lines would end in spaces.
            help.lines().map(|line| format!("{}\n", line.trim_end())).collect::<String>()
        };
        let overview = help(&["--help"]);
        let commands = overview.lines().skip_while(|line| *line != "Commands:").skip(1);
        let commands = commands.take_while(|line| !line.is_empty()).filter(|line| !line.starts_with("   "));
        let commands: Vec<&str> = commands.filter_map(|line| line.split_whitespace().next()).collect();
        assert!(commands.len() > 2, "{overview}");
        let mut all = overview.clone();
        for command in commands.into_iter().filter(|command| *command != "help") {
            all += &format!("\n# {name} {command} --help\n\n{}", help(&[command, "--help"]));
        }
        assert_snapshot(&format!("tests/it/snapshots/{name}.txt"), &all);
    }
}
