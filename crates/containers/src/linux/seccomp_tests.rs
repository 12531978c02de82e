use super::*;

/// Runs a program as the kernel would. Panics on what the kernel's checker refuses.
fn run(program: &[libc::sock_filter], number: u32, args: [u64; 6]) -> u32 {
    let mut data = Vec::new();
    data.extend(number.to_le_bytes());
    data.extend(ARCH.to_le_bytes());
    data.extend(0_u64.to_le_bytes());
    args.iter().for_each(|a| data.extend(a.to_le_bytes()));
    let (mut at, mut accumulator) = (0, 0_u32);
    loop {
        let i = program[at];
        at += 1;
        let mut jump = |holds: bool| at += usize::from(if holds { i.jt } else { i.jf });
        match i.code {
            LOAD => accumulator = u32::from_le_bytes(data[i.k as usize..i.k as usize + 4].try_into().unwrap()),
            JUMP_EQUAL => jump(accumulator == i.k),
            JUMP_GREATER => jump(accumulator > i.k),
            JUMP_GREATER_EQUAL => jump(accumulator >= i.k),
            AND => accumulator &= i.k,
            0x05 => at += i.k as usize,
            RETURN => return i.k,
            other => panic!("instruction {other:#x}"),
        }
    }
}

#[test]
fn comparisons_see_all_64_bits() {
    let values = [0, 1, 5, 6, 0xffff_ffff, 1 << 32, (1 << 32) + 5, (5 << 32) + 1, u64::MAX];
    type Truth = fn(u64, u64) -> bool;
    let comparisons: [(Comparison, Truth); 7] = [
        (Comparison::Equal, |a, b| a == b),
        (Comparison::NotEqual, |a, b| a != b),
        (Comparison::Less, |a, b| a < b),
        (Comparison::LessOrEqual, |a, b| a <= b),
        (Comparison::Greater, |a, b| a > b),
        (Comparison::GreaterOrEqual, |a, b| a >= b),
        (Comparison::MaskedEqual(0x1_0000_0004), |a, b| a & 0x1_0000_0004 == b),
    ];
    for (comparison, truth) in comparisons {
        for value in values {
            // A second condition behind it, so that jumps past the end are seen to go far enough.
            let conditions =
                vec![Condition { index: 1, comparison, value }, Condition { index: 2, comparison: Comparison::Equal, value: 7 }];
            let rule = Rule { calls: vec![3], conditions, action: Action::Allow };
            let program = assemble(&Profile { default: Action::Errno(1), rules: vec![rule] });
            for argument in values {
                let expected = if truth(argument, value) { RET_ALLOW } else { RET_ERRNO | 1 };
                assert_eq!(run(&program, 3, [0, argument, 7, 0, 0, 0]), expected, "{argument:#x} {comparison:?} {value:#x}");
                assert_eq!(run(&program, 3, [0, argument, 8, 0, 0, 0]), RET_ERRNO | 1);
            }
        }
    }
}

#[test]
fn the_default_profile_follows_capabilities() {
    let table = table();
    let plain = assemble(&default_profile(&|_| false));
    let admin = assemble(&default_profile(&|c| c == "CAP_SYS_ADMIN"));
    let eperm = RET_ERRNO | libc::EPERM as u32;
    for (call, args, unprivileged, privileged) in [
        ("read", [0; 6], RET_ALLOW, RET_ALLOW),
        ("mount", [0; 6], eperm, RET_ALLOW),
        ("keyctl", [0; 6], eperm, eperm),
        ("reboot", [0; 6], eperm, eperm),
        ("clone", [0x11, 0, 0, 0, 0, 0], RET_ALLOW, RET_ALLOW),
        ("clone", [0x1000_0011, 0, 0, 0, 0, 0], eperm, RET_ALLOW),
        ("clone3", [0; 6], RET_ERRNO | libc::ENOSYS as u32, RET_ALLOW),
        ("personality", [8, 0, 0, 0, 0, 0], RET_ALLOW, RET_ALLOW),
        ("personality", [0x40000, 0, 0, 0, 0, 0], eperm, eperm),
        ("socket", [2, 0, 0, 0, 0, 0], RET_ALLOW, RET_ALLOW),
        ("socket", [40, 0, 0, 0, 0, 0], eperm, eperm),
    ] {
        assert_eq!(run(&plain, table[call], args), unprivileged, "{call} {args:x?}");
        assert_eq!(run(&admin, table[call], args), privileged, "{call} {args:x?} with CAP_SYS_ADMIN");
    }
    assert_eq!(run(&plain, 9999, [0; 6]), RET_ERRNO | libc::ENOSYS as u32);
    assert!(plain.len() < 4096, "the kernel takes no more");
}

#[test]
fn every_name_of_the_default_profile_is_a_system_call() {
    // Spelling mistakes would silently allow. These exist on other machines only.
    let elsewhere =
        ["ioperm", "iopl", "sysfs", "ustat", "uselib", "create_module", "get_kernel_syms", "query_module", "_sysctl", "afs_syscall"];
    let text = include_str!("seccomp_default.rs");
    let table = table();
    for name in text.lines().take_while(|l| !l.contains("NAMESPACE_FLAGS")).flat_map(|l| l.split('"').skip(1).step_by(2)) {
        let known =
            name.starts_with("CAP_") || table.contains_key(name) || (cfg!(not(target_arch = "x86_64")) && elsewhere.contains(&name));
        assert!(known, "{name}");
    }
}

#[test]
fn an_oci_profile_is_read() {
    let json = r#"{"defaultAction":"SCMP_ACT_ERRNO","defaultErrnoRet":38,"archMap":[],"syscalls":[
        {"names":["read","no_such_call"],"action":"SCMP_ACT_ALLOW"},
        {"names":["kill"],"action":"SCMP_ACT_ERRNO","errnoRet":13,"args":[{"index":1,"value":9,"op":"SCMP_CMP_EQ"}]},
        {"names":["kill"],"action":"SCMP_ACT_ALLOW"},
        {"names":["mount"],"action":"SCMP_ACT_ALLOW","includes":{"caps":["CAP_SYS_ADMIN"]}}]}"#;
    let table = table();
    let program = assemble(&parse(json, &|_| false).unwrap());
    assert_eq!(run(&program, table["read"], [0; 6]), RET_ALLOW);
    assert_eq!(run(&program, table["kill"], [1, 9, 0, 0, 0, 0]), RET_ERRNO | 13);
    assert_eq!(run(&program, table["kill"], [1, 15, 0, 0, 0, 0]), RET_ALLOW);
    assert_eq!(run(&program, table["mount"], [0; 6]), RET_ERRNO | 38);
    assert!(parse(r#"{"defaultAction":"SCMP_ACT_NOTIFY"}"#, &|_| false).unwrap_err().contains("SCMP_ACT_NOTIFY"));
}
