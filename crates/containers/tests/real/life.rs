//! From creation to removal, with deaths on the way.

use std::time::Duration;

use gantry_containers::{ContainerId, ContainerState, Error, Event, ExitReason, Runtime, SandboxState};

use crate::harness::{PATIENCE, World, eventually, shims_of, until};

#[tokio::test]
async fn what_was_told_to_start_is_not_discarded() {
    let w = World::new().await;
    w.sandbox("discard").await;
    let config = w.script("one", "exec sleep 1000");
    let id = w.runtime.create_container("discard", &config).await.unwrap();
    w.runtime.discard_container(&id).await.unwrap();
    assert!(w.runtime.container_status(&id).await.is_err(), "it was never started, and is gone");
    let id = w.start("discard", &config).await;
    let refused = w.runtime.discard_container(&id).await.unwrap_err();
    assert!(gantry_object::chain(&refused).contains("was started"), "{}", gantry_object::chain(&refused));
    assert_eq!(w.runtime.container_status(&id).await.unwrap().state, ContainerState::Running);
    w.finish().await;
}

#[tokio::test]
async fn exit_codes_and_signals_are_told() {
    let w = World::new().await;
    w.sandbox("exit").await;
    let (status, _) = w.run("exit", &w.script("three", "exit 3")).await;
    assert_eq!((status.exit_code, status.reason), (Some(3), Some(ExitReason::Error)));
    assert!(status.started_at.unwrap() >= status.created_at && status.finished_at >= status.started_at);
    let id = w.start("exit", &w.script("killed", "exec sleep 1000")).await;
    let status = w.runtime.container_status(&id).await.unwrap();
    assert_eq!((status.state, status.exit_code), (ContainerState::Running, None));
    let pid = rustix::process::Pid::from_raw(status.pid.unwrap()).unwrap();
    rustix::process::kill_process(pid, rustix::process::Signal::KILL).unwrap();
    let status = w.ended(&id).await;
    assert_eq!((status.exit_code, status.reason, status.pid), (Some(137), Some(ExitReason::Error), None));
    w.finish().await;
}

#[tokio::test]
async fn what_can_not_be_started_says_why() {
    let w = World::new().await;
    w.sandbox("bad").await;
    let mut config = w.script("none", "");
    config.args = vec!["no-such-program".into()];
    let id = w.runtime.create_container("bad", &config).await.unwrap();
    let error = w.runtime.start_container(&id).await.unwrap_err();
    assert!(matches!(&error, Error::Start(text) if text.contains("no-such-program") && text.contains("not found in $PATH")), "{error}");
    let status = w.ended(&id).await;
    assert_eq!((status.exit_code, status.reason), (Some(128), Some(ExitReason::StartError)));
    assert!(status.message.contains("no-such-program"));

    let again = w.runtime.create_container("bad", &config).await.unwrap_err();
    assert!(matches!(again, Error::AlreadyExists { .. }), "{again}");
    config.attempt = 1;
    config.args = vec!["/etc/passwd".into()];
    let id = w.runtime.create_container("bad", &config).await.unwrap();
    assert!(w.runtime.start_container(&id).await.unwrap_err().to_string().contains("ermission denied"));

    let mut config = w.script("caps", "true");
    config.security.drop_capabilities = vec!["CHWON".into()];
    assert!(w.runtime.create_container("bad", &config).await.unwrap_err().to_string().contains("CHWON"));
    assert!(w.runtime.create_container("bad", &w.script("../up", "true")).await.is_err());
    assert!(matches!(w.runtime.create_container("none", &w.script("x", "true")).await.unwrap_err(), Error::NotFound { .. }));
    let unknown = ContainerId::new("bad", "unknown", 0);
    assert!(matches!(w.runtime.start_container(&unknown).await.unwrap_err(), Error::NotFound { .. }));
    w.runtime.remove_container(&unknown).await.unwrap();
    w.finish().await;
}

#[tokio::test]
async fn stopping_asks_first_and_then_insists() {
    let w = World::new().await;
    w.sandbox("stop").await;
    let polite = w.start("stop", &w.script("polite", "trap 'echo bye; exit 5' TERM; echo up; while true; do usleep 5000; done")).await;
    w.wait_for_log("polite", "up").await;
    w.runtime.stop_container(&polite, PATIENCE).await.unwrap();
    let status = w.runtime.container_status(&polite).await.unwrap();
    assert_eq!((status.exit_code, w.log("polite").as_str()), (Some(5), "up\nbye\n"));

    let mut config = w.script("quit", "trap 'exit 6' QUIT; echo up; while true; do usleep 5000; done");
    config.stop_signal = "SIGQUIT".into();
    let quit = w.start("stop", &config).await;
    w.wait_for_log("quit", "up").await;
    w.runtime.stop_container(&quit, PATIENCE).await.unwrap();
    assert_eq!(w.runtime.container_status(&quit).await.unwrap().exit_code, Some(6));

    // Deaf, and with a child that is deaf too.
    let deaf = w.start("stop", &w.script("deaf", "trap '' TERM; (trap '' TERM; sleep 1000) & echo up; wait; sleep 1000")).await;
    w.wait_for_log("deaf", "up").await;
    w.runtime.stop_container(&deaf, Duration::from_millis(50)).await.unwrap();
    assert_eq!(w.runtime.container_status(&deaf).await.unwrap().exit_code, Some(137));
    w.runtime.stop_container(&deaf, PATIENCE).await.unwrap();

    // A second call with less patience cuts the first one's short.
    let slow = w.start("stop", &w.script("slow", "trap '' TERM; echo up; while true; do usleep 5000; done")).await;
    w.wait_for_log("slow", "up").await;
    let (first, second) =
        tokio::join!(w.runtime.stop_container(&slow, Duration::from_secs(600)), w.runtime.stop_container(&slow, Duration::from_millis(20)));
    first.unwrap();
    second.unwrap();
    w.finish().await;
}

#[tokio::test]
async fn a_new_agent_takes_up_what_the_old_one_left() {
    let w = World::new().await;
    w.sandbox("adopt").await;
    let id = w.start("adopt", &w.script("lives", "echo one; while ! test -f /tmp/go; do usleep 2000; done; echo two; exit 7")).await;
    w.wait_for_log("lives", "one").await;
    let before = w.runtime.container_status(&id).await.unwrap();
    let w = w.reopen().await;
    assert_eq!(w.runtime.container_status(&id).await.unwrap(), before, "not started again, nothing forgotten");
    let sandboxes = w.runtime.list().await.unwrap();
    assert_eq!((sandboxes.len(), sandboxes[0].state, sandboxes[0].labels["app"].as_str()), (1, SandboxState::Ready, "test"));
    assert!(matches!(w.runtime.run_sandbox(&w.sandbox_config("adopt")).await.unwrap_err(), Error::AlreadyExists { .. }));
    w.runtime.exec_sync(&id, &["touch".into(), "/tmp/go".into()], None).await.unwrap();
    let status = w.ended(&id).await;
    assert_eq!((status.exit_code, w.log("lives").as_str()), (Some(7), "one\ntwo\n"));
    // It ends while nobody is there, and is found ended.
    let config = w.script("ends", "while ! test -f /dev/shm/go; do usleep 2000; done; exit 8");
    let id = w.start("adopt", &config).await;
    let pid = w.runtime.container_status(&id).await.unwrap().pid.unwrap();
    w.runtime.exec_sync(&id, &["touch".into(), "/dev/shm/go".into()], None).await.unwrap();
    let w = w.reopen().await;
    eventually("its end", || !std::path::Path::new(&format!("/proc/{pid}")).exists()).await;
    assert_eq!(w.ended(&id).await.exit_code, Some(8));
    w.finish().await;
}

#[tokio::test]
async fn containers_end_with_their_shim_and_are_buried() {
    let w = World::new().await;
    w.sandbox("lost").await;
    let script = w.script("orphan", "trap '' TERM HUP; (sleep 1000) & exec sleep 1000");
    let id = w.start("lost", &script).await;
    let status = w.runtime.sandbox_status("lost").await.unwrap();
    let (shim, pid) = (status.shim_pid.unwrap(), status.containers[0].pid.unwrap());
    let mut events = w.runtime.events().unwrap();
    rustix::process::kill_process(rustix::process::Pid::from_raw(shim).unwrap(), rustix::process::Signal::KILL).unwrap();
    until(&mut *events, |e| matches!(e, Event::SandboxLost { sandbox } if sandbox == "lost").then_some(())).await;
    eventually("the container's end", || !std::path::Path::new(&format!("/proc/{pid}")).exists()).await;
    let status = w.runtime.sandbox_status("lost").await.unwrap();
    let container = &status.containers[0];
    assert_eq!((status.state, container.state, container.exit_code), (SandboxState::NotReady, ContainerState::Exited, Some(137)));
    assert_eq!(container.reason, Some(ExitReason::ContainerStatusUnknown));
    assert!(w.runtime.create_container("lost", &w.script("late", "true")).await.is_err());
    w.runtime.remove_container(&id).await.unwrap();

    // The same with nobody there to see.
    w.sandbox("unseen").await;
    w.start("unseen", &w.script("orphan", "exec sleep 1000")).await;
    let shim = w.runtime.sandbox_status("unseen").await.unwrap().shim_pid.unwrap();
    let World { .. } = &w;
    let w = {
        rustix::process::kill_process(rustix::process::Pid::from_raw(shim).unwrap(), rustix::process::Signal::KILL).unwrap();
        eventually("the shim's end", || !std::path::Path::new(&format!("/proc/{shim}")).exists()).await;
        w.reopen().await
    };
    let found = w.runtime.sandbox_status("unseen").await.unwrap();
    assert_eq!(found.containers[0].reason, Some(ExitReason::ContainerStatusUnknown));
    w.finish().await;
}

#[tokio::test]
async fn a_stopped_sandbox_keeps_its_story_and_a_removed_one_nothing() {
    let w = World::new().await;
    w.sandbox("story").await;
    let id = w.start("story", &w.script("runs", "echo told; exec sleep 1000")).await;
    w.wait_for_log("runs", "told").await;
    assert!(!shims_of(w.directory.path().to_str().unwrap()).is_empty());
    w.runtime.stop_sandbox("story").await.unwrap();
    w.runtime.stop_sandbox("story").await.unwrap();
    let status = w.runtime.sandbox_status("story").await.unwrap();
    assert_eq!((status.state, status.containers[0].exit_code), (SandboxState::NotReady, Some(137)));
    w.runtime.remove_container(&id).await.unwrap();
    assert!(w.runtime.sandbox_status("story").await.unwrap().containers.is_empty());
    w.runtime.remove_sandbox("story").await.unwrap();
    w.runtime.remove_sandbox("story").await.unwrap();
    assert!(matches!(w.runtime.sandbox_status("story").await.unwrap_err(), Error::NotFound { .. }));
    assert_eq!(w.log("runs"), "told\n");
    w.finish().await;
}

#[tokio::test]
async fn a_sandbox_that_can_not_start_leaves_nothing() {
    let w = World::new().await;
    let mut config = w.sandbox_config("wrong");
    config.sysctls.insert("net.no_such_thing".into(), "1".into());
    let error = w.runtime.run_sandbox(&config).await.unwrap_err().to_string();
    assert!(error.contains("no_such_thing"), "{error}");
    config.sysctls.clear();
    config.cgroup_parent = "/elsewhere/pod".into();
    assert!(w.runtime.run_sandbox(&config).await.unwrap_err().to_string().contains("elsewhere"));
    config.id = "../up".into();
    assert!(w.runtime.run_sandbox(&config).await.is_err());
    w.finish().await;
}

#[tokio::test]
async fn events_come_once_for_each_state() {
    let w = World::new().await;
    let mut events = w.runtime.events().unwrap();
    w.sandbox("events").await;
    let id = w.start("events", &w.script("short", "exit 0")).await;
    let mut states = Vec::new();
    until(&mut *events, |e| {
        if let Event::Container(s) = e {
            assert_eq!(s.id, id);
            states.push(s.state);
        }
        (states.last() == Some(&ContainerState::Exited)).then_some(())
    })
    .await;
    assert_eq!(states, [ContainerState::Created, ContainerState::Running, ContainerState::Exited]);
    w.finish().await;
}

#[tokio::test]
async fn many_pods_at_once() {
    let w = World::new().await;
    let one = async |n: usize| {
        let (sandbox, name) = (format!("many{n}"), format!("c{n}"));
        w.sandbox(&sandbox).await;
        let (status, log) = w.run(&sandbox, &w.script(&name, &format!("echo {n}; exit {n}"))).await;
        assert_eq!((status.exit_code, log), (Some(n as i32), format!("{n}\n")));
        w.runtime.remove_sandbox(&sandbox).await.unwrap();
    };
    tokio::join!(one(1), one(2), one(3), one(4), one(5), one(6), one(7), one(8));
    w.finish().await;
}
