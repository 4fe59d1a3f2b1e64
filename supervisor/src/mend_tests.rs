//! One case for each text.

use proctor_sandbox::host::OwnFacts;

use super::*;

fn facts() -> Facts {
    Facts {
        max_user_namespaces: Some(1000),
        unprivileged_userns_clone: None,
        apparmor_restricts_userns: None,
        landlock_abi: 7,
        overlay_registered: true,
        seccomp: true,
        container: None,
        core_pattern: "core".into(),
        own: OwnFacts { kernel: "6.12.0".into(), capabilities: u64::MAX, ..OwnFacts::default() },
    }
}

fn own(change: impl Fn(&mut OwnFacts)) -> Facts {
    let mut facts = facts();
    change(&mut facts.own);
    facts
}

fn within(container: &str, mut facts: Facts) -> Facts {
    facts.container = Some(container.into());
    facts
}

fn failed(step: Step, errno: i32) -> StepError {
    StepError { step, subject: String::new(), errno }
}

#[test]
fn each_cause_has_its_own_text() {
    let filtered = || own(|o| o.filtered = true);
    let root = |without: u64| {
        own(move |o| {
            o.root = true;
            o.capabilities &= !without;
        })
    };
    let off = Facts { max_user_namespaces: Some(0), ..facts() };
    let debian = Facts { unprivileged_userns_clone: Some(0), ..facts() };
    let ubuntu = || Facts { apparmor_restricts_userns: Some(1), ..facts() };
    let profile = || own(|o| o.apparmor = Some("docker-default (enforce)".into()));
    let masked = || own(|o| o.proc_covered = ["a", "b", "c", "d"].map(|n| format!("/proc/{n}")).to_vec());
    let cases: Vec<(Step, i32, Facts, &str)> = vec![
        // No namespaces.
        (Step::Clone, ENOSPC, off.clone(), "sysctl -w user.max_user_namespaces=15000"),
        (Step::IdmapNamespace, ENOSPC, off, "user.max_user_namespaces"),
        (Step::Clone, ENOSPC, facts(), "max_.*_namespaces"),
        (Step::Clone, EPERM, own(|o| o.chroot = true), "in a chroot"),
        (Step::Clone, EPERM, debian, "sysctl -w kernel.unprivileged_userns_clone=1"),
        (Step::Clone, ENOSYS, within("docker", filtered()), "--security-opt seccomp=unconfined"),
        (Step::Clone, ENOSYS, within("docker", filtered()), "--security-opt apparmor=unconfined"),
        (Step::Clone, EPERM, within("kubernetes", filtered()), "seccompProfile.type: Unconfined"),
        (Step::Clone, EPERM, within("kubernetes", filtered()), "hostUsers: false alone"),
        (Step::Clone, EPERM, filtered(), "SystemCallFilter="),
        (Step::Clone, EPERM, ubuntu(), "apparmor_parser -r /etc/apparmor.d/proctor"),
        (Step::Clone, ENOSYS, facts(), "Linux 5.3"),
        (Step::Clone, EINVAL, facts(), "CONFIG_USER_NS"),
        (Step::Clone, EPERM, within("docker", profile()), "docker-default (enforce)"),
        (Step::Clone, EPERM, facts(), "or run as root"),
        // No id maps.
        (Step::UidMap, EPERM, root(CAP_SETUID), "--cap-add SETUID"),
        (Step::GidMap, EPERM, within("kubernetes", root(CAP_SETGID)), "capabilities.add: [SETUID, SETGID]"),
        (Step::UidMap, EPERM, ubuntu(), "apparmor_restrict_unprivileged_userns=0"),
        (Step::UidMap, EPERM, own(|o| (o.root, o.ids_mapped) = (true, true)), "--userns=host"),
        (Step::UidMap, EPERM, within("kubernetes", profile()), "appArmorProfile.type: Unconfined"),
        (Step::UidMap, EPERM, facts(), "user_namespace class"),
        // Mounts.
        (Step::IdmapOpen, EPERM, root(CAP_SYS_ADMIN), "--cap-add SYS_ADMIN"),
        (Step::IdmapSet, EPERM, within("kubernetes", root(CAP_SYS_ADMIN)), "capabilities.add: [SYS_ADMIN]"),
        (
            Step::IdmapSet,
            EPERM,
            own(|o| (o.root, o.ids_mapped, o.capabilities) = (true, true, u64::MAX)),
            "root of a user namespace",
        ),
        (Step::IdmapSet, EINVAL, own(|o| o.root_fs = Some("overlay".into())), "put it on a volume"),
        (Step::IdmapSet, EINVAL, facts(), "no idmapped mounts"),
        (Step::Propagation, EPERM, ubuntu(), "AppArmor restricts user namespaces"),
        (Step::StoreCreate, EPERM, within("docker", filtered()), "refuses the mount calls"),
        (Step::PivotRoot, ENOSYS, filtered(), "pivot_root, umount2"),
        (Step::StoreAttach, EACCES, within("docker", profile()), "apparmor=unconfined"),
        (Step::BindClone, EPERM, facts(), "mounting in a user namespace is refused"),
        (Step::Propagation, ENOSYS, facts(), "Linux 5.12"),
        (Step::Devpts, ENODEV, facts(), "devpts"),
        (Step::BindAttach, EINVAL, facts(), "see the message for the path"),
        (Step::ProcMount, EPERM, masked(), "(/proc/a, /proc/b, /proc/c, ...)"),
        (Step::ProcMount, EPERM, within("docker", masked()), "systempaths=unconfined"),
        (Step::ProcMount, EPERM, within("podman", masked()), "unmask=/proc/*"),
        (Step::ProcMount, EPERM, within("kubernetes", masked()), "procMount: Unmasked"),
        (Step::ProcMount, EPERM, within("docker", filtered()), "refuses the mount calls"),
        // The overlay.
        (Step::OverlayMount, ENODEV, facts(), "modprobe overlay"),
        (Step::OverlayMount, EPERM, Facts { overlay_registered: false, ..facts() }, "CONFIG_OVERLAY_FS"),
        (Step::OverlayMount, EINVAL, facts(), "an overlay over an overlay"),
        (Step::OverlayMount, EPERM, filtered(), "fsopen, fsconfig, fsmount"),
        (Step::OverlayMount, EPERM, facts(), "Linux 5.11"),
        (Step::SeedUpper, 95, facts(), "Linux 6.6"),
        (Step::SeedUpper, 95, facts(), "XDG_STATE_HOME"),
        (Step::LayerDir, EACCES, facts(), "XDG_STATE_HOME"),
        // Landlock, seccomp, the rest.
        (Step::LandlockRuleset, ENOSYS, facts(), "CONFIG_SECURITY_LANDLOCK=y"),
        (Step::LandlockRuleset, ENOSYS, within("docker", filtered()), "refuses the landlock calls"),
        (Step::LandlockRuleset, 95, filtered(), "lsm=landlock"),
        (Step::LandlockRuleset, 95, Facts { landlock_abi: 1, ..facts() }, "needs ABI 2"),
        (Step::LandlockRestrict, EPERM, filtered(), "the landlock calls"),
        (Step::Seccomp, EINVAL, facts(), "CONFIG_SECCOMP_FILTER"),
        (Step::Seccomp, EPERM, within("docker", filtered()), "refuses the call seccomp"),
        (Step::Pidfd, ENOSYS, facts(), "Linux 5.3"),
        (Step::Pidfd, ENOSYS, filtered(), "pidfd_send_signal"),
        (Step::LoopbackUp, EPERM, filtered(), "RestrictAddressFamilies="),
        (Step::Hostname, EPERM, within("podman", filtered()), "refuses the call sethostname"),
        (Step::CgroupJoin, EACCES, facts(), "Delegate=yes"),
        (Step::CloseDescriptors, ENOSYS, filtered(), "refuses this call"),
        (Step::Rlimit, EINVAL, facts(), "docs/threat-model.md"),
    ];
    for (step, errno, facts, wanted) in cases {
        let text = of_step(&failed(step, errno), &facts);
        assert!(text.contains(wanted), "{step:?} {errno}: {wanted:?} is not in {text:?}");
    }
}

#[test]
fn what_is_no_step_has_a_text_too() {
    let shortfall = LaunchError::Shortfall(vec!["missing: seccomp filter".into()]);
    assert!(of(&shortfall, &facts()).contains("not seen to work"));
    assert!(of_death(&facts()).contains("memory limits"));
    assert!(of_death(&own(|o| o.filtered = true)).contains("kills for it"));
    assert!(of(&LaunchError::Launcher("gone".into()), &facts()).contains("please report it"));
}

#[test]
fn layers_that_have_no_place_name_both() {
    let state = Path::new("/home/a/.local/state");
    let refused = |step, errno| LaunchError::from(failed(step, errno));
    let attributes = refused(Step::SeedUpper, 95);
    let neither = of_layers(&attributes, &attributes, state, &facts());
    for part in ["Linux 6.6", "XDG_STATE_HOME", "/home/a/.local/state"] {
        assert!(neither.contains(part), "{neither}");
    }
    let overlay = refused(Step::OverlayMount, EINVAL);
    let below = of_layers(&overlay, &overlay, state, &facts());
    assert!(below.contains("put the work tree on a volume"), "{below}");
}
