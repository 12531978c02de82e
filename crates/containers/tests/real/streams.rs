//! Logs, commands, terminals, and joining in.

use std::time::Duration;

use gantry_containers::{Error, ExecConfig, Runtime, StdioConfig};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::harness::{World, eventually};

fn args(list: &[&str]) -> Vec<String> {
    list.iter().map(|s| (*s).to_owned()).collect()
}

#[tokio::test]
async fn logs_are_in_cri_form_and_can_be_turned_over() {
    let w = World::new().await;
    w.sandbox("log").await;
    let script = "echo out; echo err >&2; while ! test -f /tmp/go; do usleep 2000; done; echo late; printf tail";
    let id = w.start("log", &w.two_streams("logs", script)).await;
    w.wait_for_log("logs", "err").await;
    let path = w.runtime.container_status(&id).await.unwrap().log_path.unwrap();
    let text = std::fs::read_to_string(&path).unwrap();
    for (stream, word) in [("stdout", "out"), ("stderr", "err")] {
        let line = text.lines().find(|l| l.ends_with(word)).unwrap();
        let fields: Vec<_> = line.split(' ').collect();
        assert_eq!(fields[1..], [stream, "F", word]);
        assert!(gantry_object::Timestamp::parse(fields[0]).is_some() && fields[0].len() == 30, "{line}");
    }
    std::fs::rename(&path, path.with_extension("1")).unwrap();
    w.runtime.reopen_log(&id).await.unwrap();
    w.runtime.exec_sync(&id, &args(&["touch", "/tmp/go"]), None).await.unwrap();
    w.ended(&id).await;
    assert_eq!(w.log("logs"), "late\ntail\n");
    w.finish().await;
}

#[tokio::test]
async fn commands_run_with_the_containers_rights() {
    let w = World::new().await;
    w.sandbox("exec").await;
    let mut config = w.script("host", "exec sleep 1000");
    config.env = args(&["WHO=me"]);
    config.security.uid = 1000;
    config.security.no_new_privs = true;
    config.security.drop_capabilities = args(&["ALL"]);
    let id = w.start("exec", &config).await;
    let script = "id -u; echo $WHO; grep -E 'Seccomp:|NoNewPrivs|CapBnd' /proc/self/status; unshare -U true; echo oops >&2; ls /proc | grep -c '^[0-9]'; exit 4";
    let result = w.runtime.exec_sync(&id, &args(&["sh", "-c", script]), Some(Duration::from_secs(50))).await.unwrap();
    let out = String::from_utf8(result.stdout).unwrap();
    assert_eq!(result.exit_code, 4);
    assert!(out.starts_with("1000\nme\n"), "{out}");
    assert!(out.contains("CapBnd:\t0000000000000000") && out.contains("Seccomp:\t2") && out.contains("NoNewPrivs:\t1"), "{out}");
    let err = String::from_utf8(result.stderr).unwrap();
    assert!(err.contains("not permitted") && err.ends_with("oops\n"), "{err}");

    let missing = w.runtime.exec_sync(&id, &args(&["nothing"]), None).await.unwrap_err();
    assert!(matches!(&missing, Error::Start(t) if t.contains("not found in $PATH")), "{missing}");
    let slow = w.runtime.exec_sync(&id, &args(&["sh", "-c", "sleep 987"]), Some(Duration::from_millis(100))).await.unwrap_err();
    assert!(matches!(slow, Error::Timeout(_)), "{slow}");
    let gone = async {
        let ps = args(&["ps"]);
        while String::from_utf8(w.runtime.exec_sync(&id, &ps, None).await.unwrap().stdout).unwrap().contains("sleep 987") {}
    };
    tokio::time::timeout(crate::harness::PATIENCE, gone).await.expect("what timed out is killed");
    // A command that leaves something behind that holds its output does end.
    let result = w.runtime.exec_sync(&id, &args(&["sh", "-c", "sleep 986 & echo done"]), Some(Duration::from_secs(50))).await.unwrap();
    assert_eq!((result.exit_code, result.stdout.as_slice()), (0, &b"done\n"[..]));
    w.finish().await;
}

#[tokio::test]
async fn commands_stream_both_ways() {
    let w = World::new().await;
    w.sandbox("stream").await;
    let id = w.start("stream", &w.script("host", "exec sleep 1000")).await;
    let config = ExecConfig { args: args(&["sh", "-c", "cat; echo end >&2; exit 9"]), stdin: true, ..ExecConfig::default() };
    let mut session = w.runtime.exec(&id, &config).await.unwrap();
    let mut stdin = session.stdin.take().unwrap();
    let data = vec![b'x'; 1 << 20];
    let (mut out, mut err) = (Vec::new(), Vec::new());
    let writing = async {
        stdin.write_all(&data).await.unwrap();
        drop(stdin);
    };
    let (stdout, stderr) = (session.stdout.as_mut().unwrap(), session.stderr.as_mut().unwrap());
    let (_, a, b) = tokio::join!(writing, stdout.read_to_end(&mut out), stderr.read_to_end(&mut err));
    a.unwrap();
    b.unwrap();
    assert!(out == data && err == b"end\n");
    assert_eq!(session.exit.await.unwrap(), 9);
    w.finish().await;
}

#[tokio::test]
async fn terminals_have_a_size_and_job_control() {
    let w = World::new().await;
    w.sandbox("tty").await;
    let id = w.start("tty", &w.script("host", "exec sleep 1000")).await;
    let script = "tty; test -t 1 && echo terminal; echo $TERM; read line; stty size; echo got $line; read line; exit 3";
    let config = ExecConfig { args: args(&["sh", "-c", script]), tty: true, stdin: true, ..ExecConfig::default() };
    let mut session = w.runtime.exec(&id, &config).await.unwrap();
    assert!(session.stderr.is_none());
    session.terminal.as_ref().unwrap().resize(101, 37).unwrap();
    let mut stdin = session.stdin.take().unwrap();
    stdin.write_all(b"hello\n\n").await.unwrap();
    let mut out = Vec::new();
    session.stdout.as_mut().unwrap().read_to_end(&mut out).await.unwrap();
    let out = String::from_utf8(out).unwrap();
    assert!(out.contains("/dev/pts/0\r\nterminal\r\nxterm\r\n") || out.contains("/dev/pts/0"), "{out}");
    assert!(out.contains("37 101\r\n") && out.contains("got hello\r\n"), "{out}");
    assert_eq!(session.exit.await.unwrap(), 3);
    w.finish().await;
}

#[tokio::test]
async fn attaching_joins_a_running_container() {
    let w = World::new().await;
    w.sandbox("attach").await;
    let mut config = w.two_streams("plain", "while read line; do echo got $line; done; echo closed >&2; exit 2");
    config.stdio = StdioConfig { stdin: true, stdin_once: true, tty: false };
    let id = w.start("attach", &config).await;
    let mut session = w.runtime.attach(&id).await.unwrap();
    let mut stdin = session.stdin.take().unwrap();
    stdin.write_all(b"a\nb\n").await.unwrap();
    drop(stdin);
    let (mut out, mut err) = (String::new(), String::new());
    session.stdout.as_mut().unwrap().read_to_string(&mut out).await.unwrap();
    session.stderr.as_mut().unwrap().read_to_string(&mut err).await.unwrap();
    assert_eq!((out.as_str(), err.as_str(), session.exit.await.unwrap()), ("got a\ngot b\n", "closed\n", 2));
    assert_eq!(w.log("plain"), "got a\ngot b\nclosed\n");

    let mut config = w.script("screen", "tty; test -t 0 && echo yes; ls -l /dev/console; read x; echo got $x; exit 1");
    config.stdio = StdioConfig { stdin: true, stdin_once: false, tty: true };
    let id = w.start("attach", &config).await;
    w.wait_for_log("screen", "yes").await;
    let mut session = w.runtime.attach(&id).await.unwrap();
    session.terminal.as_ref().unwrap().resize(80, 24).unwrap();
    session.stdin.as_mut().unwrap().write_all(b"word\n").await.unwrap();
    let mut out = String::new();
    session.stdout.as_mut().unwrap().read_to_string(&mut out).await.unwrap();
    assert!(out.contains("got word"), "{out}");
    assert_eq!(session.exit.await.unwrap(), 1);
    assert!(w.runtime.attach(&id).await.is_err());
    w.finish().await;
}

#[tokio::test]
async fn a_shim_is_small() {
    let w = World::new().await;
    w.sandbox("small").await;
    let id = w.start("small", &w.script("idle", "exec sleep 1000")).await;
    w.runtime.exec_sync(&id, &args(&["true"]), None).await.unwrap();
    let shim = w.runtime.sandbox_status("small").await.unwrap().shim_pid.unwrap();
    let mut private = 0;
    eventually("memory to be told", || {
        let text = std::fs::read_to_string(format!("/proc/{shim}/smaps_rollup")).unwrap_or_default();
        let field = |name: &str| text.lines().find(|l| l.starts_with(name)).and_then(|l| l.split_whitespace().nth(1)?.parse::<u64>().ok());
        // Not what is dirty: pages of a program that was only just linked are that too.
        private = field("Anonymous:").unwrap_or(0);
        private > 0
    })
    .await;
    assert!(private < 2048, "{private} kB");
    w.finish().await;
}
