//! The same walls on cgroup version 2, on machines whose controllers are with version 1.

use std::process::Command;

/// Leaves only version 2's tree in sight. Its controllers stay with version 1, so limits can't be tried there; births
/// into cgroups, device programs, killing and the container's view of its cgroup can.
const ONLY_V2: &str = r#"
    set -e
    for point in $(awk '{ for (i = 7; i <= NF; i++) if ($i == "-") { kind = $(i + 1) } if (kind ~ /^cgroup/) print $5 }' /proc/self/mountinfo); do
        umount "$point"
    done
    if mountpoint -q /sys/fs/cgroup; then umount /sys/fs/cgroup; fi
    mount -t cgroup2 none /sys/fs/cgroup
    exec "$0" isolation:: life:: streams:: --test-threads=2
"#;

#[test]
fn everything_but_limits_holds_on_version_2() {
    let mounts = std::fs::read_to_string("/proc/self/mountinfo").unwrap();
    if !mounts.contains(" - cgroup ") {
        // A machine with version 2 alone: the tests themselves have just said so.
        return;
    }
    let output = Command::new("unshare")
        .args(["--mount", "--propagation", "private", "sh", "-c", ONLY_V2])
        .arg(std::env::current_exe().unwrap())
        .env_remove("NEXTEST")
        .output()
        .unwrap();
    let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success() && out.contains("test result: ok"), "{out}\n{err}");
    let passed = out.lines().filter(|l| l.ends_with("... ok")).count();
    assert!(passed > 20, "{passed} tests ran\n{out}");
}
