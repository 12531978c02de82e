//! Limits that are hit, and what is told of usage.

use gantry_containers::{ExitReason, Resources, Runtime};

use crate::harness::World;

#[tokio::test]
async fn too_much_memory_is_killed_and_said() {
    let w = World::new().await;
    w.sandbox("oom").await;
    let mut config = w.script("hog", "head -c 200m /dev/zero | tail > /dev/null; exit $?");
    // One process: its end is the container's.
    config.args = ["tail", "/dev/zero"].map(str::to_owned).to_vec();
    config.resources = Resources { memory_limit: Some(32 << 20), ..Resources::default() };
    let (status, log) = w.run("oom", &config).await;
    assert_eq!((status.exit_code, status.reason), (Some(137), Some(ExitReason::OOMKilled)), "{log}");
    w.finish().await;
}

#[tokio::test]
async fn the_number_of_processes_is_limited() {
    let w = World::new().await;
    let mut config = w.script("forks", "for i in 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20; do sleep 1000 & done; echo end");
    config.resources = Resources { pids_limit: Some(10), ..Resources::default() };
    w.sandbox("pids").await;
    let (status, log) = w.run("pids", &config).await;
    assert!(log.contains("can't fork"), "{log}");
    assert_ne!(status.exit_code, Some(0));
    w.finish().await;
}

#[tokio::test]
async fn limits_show_inside_and_can_be_changed() {
    let w = World::new().await;
    let mut sandbox = w.sandbox_config("limits");
    sandbox.resources = Resources { cpu_shares: Some(512), memory_limit: Some(256 << 20), pids_limit: Some(100), ..Resources::default() };
    w.runtime.run_sandbox(&sandbox).await.unwrap();
    let mut config = w.script("quiet", "exec sleep 1000");
    config.resources = Resources {
        cpu_shares: Some(256),
        cpu_quota: Some(50_000),
        memory_limit: Some(64 << 20),
        cpuset_cpus: Some("0".into()),
        ..Resources::default()
    };
    let id = w.start("limits", &config).await;
    // Either version's file, whichever this machine has.
    let read = |file: &str, v2: &str| format!("cat /sys/fs/cgroup/{file} 2>/dev/null || cat /sys/fs/cgroup/{v2}");
    let ask = async |script: String| {
        let result = w.runtime.exec_sync(&id, &["sh".into(), "-c".into(), script], None).await.unwrap();
        String::from_utf8(result.stdout).unwrap().trim().to_owned()
    };
    let memory = read("memory/memory.limit_in_bytes", "memory.max");
    assert_eq!(ask(memory.clone()).await, (64 << 20).to_string());
    assert!(["50000", "50000 100000"].contains(&ask(read("cpu/cpu.cfs_quota_us", "cpu.max")).await.as_str()));
    assert_eq!(ask(read("cpuset/cpuset.cpus", "cpuset.cpus")).await, "0");
    for limit in [96 << 20, 48 << 20] {
        w.runtime.update_resources(&id, &Resources { memory_limit: Some(limit), ..Resources::default() }).await.unwrap();
        assert_eq!(ask(memory.clone()).await, limit.to_string());
    }
    ask("i=0; while [ $i -lt 20000 ]; do i=$((i+1)); done".to_owned()).await;
    let (container, pod) = (w.runtime.container_stats(&id).await.unwrap(), w.runtime.sandbox_stats("limits").await.unwrap());
    assert!(container.cpu_usage > 1_000_000 && container.memory_usage > 0 && container.pids == 1, "{container:?}");
    assert!(pod.cpu_usage >= container.cpu_usage && pod.pids >= 1, "{pod:?}");
    w.finish().await;
}
