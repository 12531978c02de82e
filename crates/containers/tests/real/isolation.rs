//! Walls, seen from inside.

use gantry_containers::{ContainerConfig, Mount, MountKind, PidNamespace, Propagation, Runtime, Seccomp, SecurityContext};

use crate::harness::World;

#[tokio::test]
async fn a_container_is_alone_in_its_namespaces() {
    let w = World::new().await;
    let mut inside = String::new();
    for name in ["pid", "mnt", "net", "uts", "ipc", "cgroup"] {
        inside.push_str(&format!("echo {name} $(readlink /proc/1/ns/{name})\n"));
    }
    inside.push_str("echo pid1 $$; hostname; echo procs $(ls /proc | grep -c '^[0-9]'); cat /proc/self/cgroup | cut -d: -f3 | sort -u");
    let log = w.output(&w.script("ns", &inside)).await;
    for name in ["pid", "mnt", "net", "uts", "ipc", "cgroup"] {
        let line = log.lines().find(|l| l.starts_with(name)).unwrap();
        let ours = std::fs::read_link(format!("/proc/self/ns/{name}")).unwrap();
        assert!(line.contains('[') && !line.ends_with(ours.to_str().unwrap()), "{line}");
    }
    assert!(log.contains("pid1 1\npod-host\n"), "{log}");
    assert!(!log.contains("gantry"), "its cgroup's place on the host shows: {log}");
    w.finish().await;
}

#[tokio::test]
async fn system_calls_are_filtered() {
    let w = World::new().await;
    // A user namespace takes no capability: only the filter refuses it.
    let script = "grep Seccomp: /proc/1/status; grep NoNewPrivs /proc/1/status; unshare -U true && echo unshared || echo refused";
    let log = w.output(&w.script("default", script)).await;
    assert!(log.contains("Seccomp:\t2\nNoNewPrivs:\t0\n") && log.ends_with("refused\n"), "{log}");

    let mut config = w.script("strict", script);
    config.security.no_new_privs = true;
    let log = w.output(&config).await;
    assert!(log.contains("Seccomp:\t2\nNoNewPrivs:\t1\n") && log.ends_with("refused\n"), "{log}");

    let mut config = w.script("open", script);
    config.security.seccomp = Seccomp::Unconfined;
    let log = w.output(&config).await;
    assert!(log.contains("Seccomp:\t0\n") && log.ends_with("unshared\n"), "{log}");

    let profile =
        r#"{"defaultAction":"SCMP_ACT_ALLOW","syscalls":[{"names":["mkdir","mkdirat"],"action":"SCMP_ACT_ERRNO","errnoRet":122}]}"#;
    let mut config = w.script("custom", "mkdir /x; echo $?; touch /y && echo made");
    config.security.seccomp = Seccomp::Localhost(profile.to_owned());
    let log = w.output(&config).await;
    assert!(log.contains("quota") && log.ends_with("1\nmade\n"), "{log}");
    w.finish().await;
}

/// The first disk of this machine, as `major minor`.
fn a_disk() -> (String, String) {
    let partitions = std::fs::read_to_string("/proc/partitions").unwrap();
    let fields: Vec<_> = partitions.lines().nth(2).expect("a machine has a disk").split_whitespace().collect();
    (fields[0].to_owned(), fields[1].to_owned())
}

#[tokio::test]
async fn devices_are_refused_even_to_holders_of_mknod() {
    let w = World::new().await;
    let (major, minor) = a_disk();
    let script = format!(
        "grep CapEff /proc/1/status; mknod /dev/disk b {major} {minor} && echo made || echo not made
         mknod /tmp/mem c 1 1 && echo made || echo not made
         mknod /tmp/null c 1 3 && echo x > /tmp/null && echo null works
         head -c 4 /dev/zero | wc -c; ls /dev | tr '\\n' ' '"
    );
    let mut config = w.script("devices", &script);
    config.security.add_capabilities = vec!["MKNOD".into()];
    let log = w.output(&config).await;
    assert!(!log.contains("\nmade"), "{log}");
    assert!(log.contains("not made\n") && log.contains("null works\n4\n"), "{log}");
    assert!(log.contains("fd full mqueue null ptmx pts random shm stderr stdin stdout tty urandom zero"), "{log}");
    w.finish().await;
}

#[tokio::test]
async fn a_device_that_got_in_can_not_be_opened() {
    let w = World::new().await;
    let (major, minor) = a_disk();
    let disk = rustix::fs::makedev(major.parse().unwrap(), minor.parse().unwrap());
    // The nodes are in the image, as a hostile image might have them. Some machines keep their disk from root too, so
    // the kernel's message buffer stands beside it: what is refused below is open to the privileged after.
    for (name, kind, number) in
        [("disk", rustix::fs::FileType::BlockDevice, disk), ("kmsg", rustix::fs::FileType::CharacterDevice, rustix::fs::makedev(1, 11))]
    {
        rustix::fs::mknodat(rustix::fs::CWD, w.root().join(name), kind, rustix::fs::Mode::from_raw_mode(0o666), number).unwrap();
    }
    let script = "head -c 1 /disk && echo opened disk; (: < /kmsg) && echo opened messages; grep Seccomp: /proc/1/status";
    let log = w.output(&w.script("plain", script)).await;
    assert!(log.matches("not permitted").count() == 2 && !log.contains("opened"), "{log}");

    let mut config = w.script("privileged", script);
    config.security.privileged = true;
    let log = w.output(&config).await;
    assert!(log.contains("opened messages\nSeccomp:\t0\n"), "{log}");
    w.finish().await;
}

#[tokio::test]
async fn the_kernel_is_masked_and_read_only() {
    let w = World::new().await;
    let script = "cat /proc/keys | wc -c; cat /proc/interrupts | wc -c; ls /sys/firmware | wc -l
        echo 1 > /proc/sys/kernel/printk; echo b > /proc/sysrq-trigger; mkdir /sys/fs/cgroup/x; test -d /sys/fs/cgroup/memory && mkdir /sys/fs/cgroup/memory/x
        touch /sys/x; mount -t tmpfs none /tmp; echo end";
    let log = w.output(&w.script("masked", script)).await;
    assert!(log.contains("0\n0\n0\n"), "{log}");
    assert!(log.matches("Read-only file system").count() >= 3, "{log}");
    assert!(log.contains("mount:") && log.ends_with("end\n"), "{log}");
    w.finish().await;
}

#[tokio::test]
async fn users_groups_and_capabilities_are_as_asked() {
    let w = World::new().await;
    let script = "id -u; id -g; id -G; echo $HOME; grep -E 'Cap(Eff|Prm|Bnd|Amb)' /proc/self/status; touch /x; echo > /dev/stdout; echo > /dev/null && ls -l /dev/null | cut -c1-10; pwd";
    let mut config = w.script("user", script);
    config.cwd = "/home/user".to_owned();
    config.security = SecurityContext {
        uid: 1000,
        gid: 1001,
        supplemental_groups: vec![2000, 3000],
        drop_capabilities: vec!["ALL".into()],
        add_capabilities: vec!["NET_BIND_SERVICE".into()],
        ..SecurityContext::default()
    };
    let log = w.output(&config).await;
    assert!(log.starts_with("1000\n1001\n1001 2000 3000\n/home/user\n"), "{log}");
    assert!(log.contains("CapBnd:\t0000000000000400\n") && log.contains("CapEff:\t0000000000000000\n"), "{log}");
    assert!(log.contains("/x: Permission denied") && log.ends_with("crw-rw-rw-\n/home/user\n"), "{log}");

    let log = w.output(&w.script("root", "id -u; grep CapEff /proc/self/status; cat /proc/self/oom_score_adj")).await;
    assert_eq!(log, "0\nCapEff:\t00000000a80425fb\n0\n");
    w.finish().await;
}

#[tokio::test]
async fn roots_are_copied_on_write_or_read_only() {
    let w = World::new().await;
    let log = w.output(&w.script("writes", "echo mine > /etc/mine; rm /etc/passwd; ls /etc")).await;
    assert_eq!(log, "mine\n");
    assert!(w.root().join("etc/passwd").exists() && !w.root().join("etc/mine").exists());

    let mut config = w.script("readonly", "touch /x; touch /dev/shm/y && echo shm; touch /scratch/z && echo scratch; ls /etc");
    config.security.read_only_rootfs = true;
    config.mounts.push(Mount {
        target: "/scratch".into(),
        kind: MountKind::Tmpfs { size: Some(65536), mode: 0o1777 },
        read_only: false,
        propagation: Propagation::Private,
    });
    let log = w.output(&config).await;
    assert!(log.contains("Read-only file system") && log.ends_with("shm\nscratch\npasswd\n"), "{log}");
    w.finish().await;
}

fn bind(source: std::path::PathBuf, target: &str, read_only: bool) -> Mount {
    Mount { target: target.into(), kind: MountKind::Bind { source, recursive: true }, read_only, propagation: Propagation::Private }
}

#[tokio::test]
async fn mounts_are_bound_and_links_lead_nowhere_else() {
    let w = World::new().await;
    let outside = w.directory.path().join("outside");
    std::fs::create_dir(&outside).unwrap();
    std::fs::write(outside.join("file"), "hello\n").unwrap();
    // A link in the image that points out of it, absolutely and by dots.
    std::os::unix::fs::symlink(&outside, w.root().join("absolute")).unwrap();
    std::os::unix::fs::symlink("../../../../../../../../../../tmp", w.root().join("dots")).unwrap();
    let script = "cat /data/file; echo changed > /data/file; cat /ro/file; echo x > /ro/file; cat /etc/hosts; cat /absolute/in/file; ls -d /tmp/deep";
    let mut config = w.script("mounts", script);
    std::fs::write(w.directory.path().join("hosts"), "127.0.0.1 me\n").unwrap();
    config.mounts = vec![
        bind(outside.clone(), "/data", false),
        bind(outside.clone(), "/ro", true),
        bind(w.directory.path().join("hosts"), "/etc/hosts", true),
        bind(outside.clone(), "/absolute/in", true),
        bind(outside.clone(), "/dots/deep", true),
    ];
    let (status, log) = {
        w.sandbox("m").await;
        w.run("m", &config).await
    };
    assert_eq!(status.exit_code, Some(0), "{log}");
    assert!(
        log.contains("hello\nchanged\n") && log.contains("Read-only file system") && log.contains("127.0.0.1 me\nchanged\n/tmp/deep\n"),
        "{log}"
    );
    let names: Vec<_> = std::fs::read_dir(&outside).unwrap().map(|e| e.unwrap().file_name()).collect();
    assert_eq!(names, ["file"], "a mount point was made outside the root");
    assert!(!std::path::Path::new("/tmp/deep").exists());

    let mut config = w.script("missing", "true");
    config.mounts = vec![bind(w.directory.path().join("nothing"), "/data", false)];
    let error = gantry_object::chain(&w.runtime.create_container("m", &config).await.unwrap_err());
    assert!(error.contains("nothing") && error.contains("No such file"), "{error}");
    w.finish().await;
}

#[tokio::test]
async fn containers_of_a_pod_share_memory_names_and_on_demand_processes() {
    let w = World::new().await;
    let mut sandbox = w.sandbox_config("shared");
    sandbox.pid = PidNamespace::Pod;
    sandbox.sysctls.insert("net.ipv4.ip_unprivileged_port_start".into(), "0".into());
    w.runtime.run_sandbox(&sandbox).await.unwrap();
    let first = w.start("shared", &w.script("first", "echo here > /dev/shm/note; exec sleep 1000")).await;
    w.runtime.container_status(&first).await.unwrap();
    let script = "while ! test -f /dev/shm/note; do usleep 1000; done; cat /dev/shm/note; ps | grep -q '[s]leep 1000' && echo seen
        cat /proc/sys/net/ipv4/ip_unprivileged_port_start; ls /proc/1/root | wc -l; ls /proc/1/root/etc; echo pid $$";
    let (status, log) = w.run("shared", &w.script("second", script)).await;
    assert_eq!(status.exit_code, Some(0), "{log}");
    assert!(log.contains("here\nseen\n0\n"), "{log}");
    assert!(!log.contains("passwd") && !log.contains("pid 1\n"), "{log}");
    // The first lives on.
    let killed = w.runtime.exec_sync(&first, &["kill".into(), "-9".into(), "1".into()], None).await.unwrap();
    assert_eq!(killed.exit_code, 0);
    assert!(w.runtime.container_status(&first).await.unwrap().pid.is_some(), "a pod's init can't be killed from inside");
    w.finish().await;
}

#[tokio::test]
async fn the_shims_program_can_not_be_written_from_inside() {
    let w = World::new().await;
    w.sandbox("exe").await;
    let config = ContainerConfig { args: vec!["/proc/self/exe".into()], ..w.script("exe", "") };
    let program = std::fs::read(env!("CARGO_BIN_EXE_gantry-shim")).unwrap();
    let id = w.runtime.create_container("exe", &config).await.unwrap();
    // Whether it can be run or not, it ends, and the file is as it was.
    let _ = w.runtime.start_container(&id).await;
    w.ended(&id).await;
    let mut config = w.script("writer", "for p in /proc/[0-9]*; do echo x >> $p/exe; done; exec 3>>/proc/1/exe && echo opened");
    config.security.privileged = true;
    let (_, log) = w.run("exe", &config).await;
    assert!(!log.contains("opened"), "{log}");
    assert!(std::fs::read(env!("CARGO_BIN_EXE_gantry-shim")).unwrap() == program);
    w.finish().await;
}
