/* SPDX-License-Identifier: Apache-2.0 */
#include "blockd/kubelet.h"
#include "tests/unit/test.h"

#include <stdio.h>

#define KUBELET "/var/lib/kubelet"
#define POD     KUBELET "/pods/5c3f"
#define TARGET  POD "/volumes/kubernetes.io~csi/pvc-1/mount"
#define BLOCK   KUBELET "/plugins/kubernetes.io/csi/volumeDevices"

static void bind_mounts_of_the_same_pod_are_known(void **state UNUSED)
{
    assert_true(kubelet_is_same_pod(TARGET, POD "/volume-subpaths/pvc-1/app/0"));
    assert_true(kubelet_is_same_pod("/k/pods/x/volumes/a/b/mount", "/k/pods/x/volume-subpaths/b"));
    assert_true(kubelet_is_same_pod(BLOCK "/publish/pvc-1/5c3f", BLOCK "/pvc-1/dev/5c3f"));
}

static void other_pods_and_other_paths_are_other_users(void **state UNUSED)
{
    static const char *const others[] = {
        "",
        "/",
        TARGET,
        POD,
        POD "/volumes/kubernetes.io~csi/pvc-2/mount",
        POD "/volume-subpaths",
        POD "x/volume-subpaths/pvc-1/app/0",
        KUBELET "/pods/5c3/volume-subpaths/pvc-1/app/0",
        KUBELET "/pods/77aa/volume-subpaths/pvc-1/app/0",
        KUBELET "/pods/77aa/volumes/kubernetes.io~csi/pvc-1/mount",
        "/var/lib/other/pods/5c3f/volume-subpaths/pvc-1/app/0",
        "/home/pods/5c3f/volume-subpaths/pvc-1/app/0",
        BLOCK "/pvc-1/dev/77aa",
    };

    for (size_t i = 0; i < ARRAY_LEN(others); i++)
        assert_false(kubelet_is_same_pod(TARGET, others[i]));
}

static void devices_of_other_pods_are_other_users(void **state UNUSED)
{
    static const char target[] = BLOCK "/publish/pvc-1/5c3f";
    static const char *const others[] = {
        "",
        BLOCK,
        BLOCK "/pvc-1/dev/77aa",
        BLOCK "/pvc-1/dev/5c3f/x",
        BLOCK "/pvc-2/dev/5c3f",
        BLOCK "/publish/pvc-1/77aa",
        "/other/volumeDevices/pvc-1/dev/5c3f",
    };

    for (size_t i = 0; i < ARRAY_LEN(others); i++)
        assert_false(kubelet_is_same_pod(target, others[i]));
    assert_false(kubelet_is_same_pod(BLOCK "/publish/pvc-1", BLOCK "/pvc-1/dev/"));
    assert_false(kubelet_is_same_pod("/run/target", "/run/pods/target"));
    assert_false(kubelet_is_same_pod("", ""));
}

#define STAGING KUBELET "/plugins/kubernetes.io/csi/csi.tdvol.dev/0a1b/globalmount"

static void kubelets_own_places_are_known_wherever_they_are_seen(void **state UNUSED)
{
    static const char *const own[] = {
        STAGING,
        "/host/plugins/kubernetes.io/csi/csi.tdvol.dev/0a1b/globalmount",
        "/0a1b/globalmount",
        "/host" TARGET,
        "/pods/77aa/volumes/kubernetes.io~csi/pvc-1/mount",
        "/rootfs" POD "/volume-subpaths/pvc-1/app/0",
    };
    static const char *const others[] = {
        "",
        "/",
        "/data",
        "/globalmount",
        "/x0a1b/globalmount",
        (STAGING "/data"),
        "/77aa/globalmount",
    };

    for (size_t i = 0; i < ARRAY_LEN(own); i++)
        assert_true(kubelet_is_own_place(own[i], STAGING));
    for (size_t i = 0; i < ARRAY_LEN(others); i++)
        assert_false(kubelet_is_own_place(others[i], STAGING));
    assert_false(kubelet_is_own_place("/data", ""));
    assert_true(kubelet_is_own_place("/host/staging", "/staging"));
}

#define UID "0f9c6f3e-6f0d-4a57-9d6b-3c1f00aa77bc"

static void the_pod_of_a_process_is_found(void **state UNUSED)
{
    char uid[KUBELET_UID_LEN + 1];

    assert_true(kubelet_pod_of_cgroup("0::/kubepods/besteffort/pod" UID "/1a2b\n", uid));
    assert_string_equal(UID, uid);
    assert_true(kubelet_pod_of_cgroup(
        "0::/kubepods.slice/kubepods-burstable.slice/"
        "kubepods-burstable-pod0f9c6f3e_6f0d_4a57_9d6b_3c1f00aa77bc.slice/cri-x.scope\n",
        uid));
    assert_string_equal(UID, uid);
    assert_false(kubelet_pod_of_cgroup("0::/system.slice/podman.service\n", uid));
    assert_false(kubelet_pod_of_cgroup("0::/kubepods/pod123\n", uid));
    assert_false(kubelet_pod_of_cgroup("", uid));
}

/* --- shapes --- */

#define DRIVER "test.tdvol"
/* SHA-256 of "vol-1" */
#define HASH "d2e8363faaac7ae76def3b14091d8eb5755f6b92e9531627aeec833a8731cc49"
#define CSI  "plugins/kubernetes.io/csi/"

static bool fits(unsigned shapes, const char *rest, struct error *err)
{
    const struct kubelet_rule rule = { .shapes = shapes, .driver = DRIVER, .volume_id = "vol-1" };

    *err = (struct error)ERROR_INIT;
    return kubelet_check_path(&rule, rest, err);
}

static void places_of_kubelet_are_taken(void **state UNUSED)
{
    static const struct {
        unsigned shape;
        const char *rest;
    } good[] = {
        { KUBELET_STAGING, CSI DRIVER "/" HASH "/globalmount" },
        { KUBELET_TARGET, "pods/" UID "/volumes/kubernetes.io~csi/pvc-1/mount" },
        { KUBELET_TARGET, "pods/a/volumes/kubernetes.io~csi/my.volume/mount" },
        { KUBELET_RAW_STAGING, CSI "volumeDevices/staging/pvc-1" },
        { KUBELET_RAW_TARGET, CSI "volumeDevices/publish/pvc-1/" UID },
        { KUBELET_RAW_MAP, CSI "volumeDevices/pvc-1/dev/" UID },
    };
    struct error err;

    for (size_t i = 0; i < ARRAY_LEN(good); i++) {
        assert_ok(fits(good[i].shape, good[i].rest, &err));
        assert_ok(fits(KUBELET_PLACES, good[i].rest, &err));
        assert_refused(ERROR_INVALID_ARGUMENT,
                       fits(KUBELET_PLACES & ~good[i].shape, good[i].rest, &err));
    }
}

static void other_places_below_its_folder_are_refused(void **state UNUSED)
{
    static const char *const bad[] = {
        "",
        "pki",
        "config.yaml",
        "pods",
        "pods/" UID,
        "pods/" UID "/volumes/kubernetes.io~csi/pvc-1",
        "pods/" UID "/volumes/kubernetes.io~csi/pvc-1/mount/x",
        "pods/" UID "/volumes/kubernetes.io~csi/pvc-1/mount/",
        "pods/" UID "/volumes/kubernetes.io~csi/pvc-1//mount",
        "pods/" UID "/volumes/kubernetes.io~csi/pvc-1/vol_data.json",
        "pods/" UID "/volumes/kubernetes.io~csi/../mount",
        "pods/" UID "/volumes/kubernetes.io~csi/./mount",
        "pods/" UID "/volumes/kubernetes.io~csi/.pvc/mount",
        "pods/" UID "/volumes/kubernetes.io~csi/pvc-/mount",
        "pods/" UID "/volumes/kubernetes.io~csi//mount",
        "pods/" UID "/volumes/kubernetes.io~csi/pvc 1/mount",
        "pods/" UID "/volumes/kubernetes.io~csi/pvc\n1/mount",
        "pods/" UID "/volumes/kubernetes.io~secret/pvc-1/mount",
        "pods/" UID "/volumes/kubernetes.io~csi-x/pvc-1/mount",
        "pods/" UID "/volume-subpaths/kubernetes.io~csi/pvc-1/mount",
        "pods/../volumes/kubernetes.io~csi/pvc-1/mount",
        "pods/a.b/volumes/kubernetes.io~csi/pvc-1/mount",
        "pods//volumes/kubernetes.io~csi/pvc-1/mount",
        "/pods/" UID "/volumes/kubernetes.io~csi/pvc-1/mount",
        "x/pods/" UID "/volumes/kubernetes.io~csi/pvc-1/mount",
        "plugins",
        "plugins/" DRIVER,
        "plugins/" DRIVER "/csi.sock",
        "plugins_registry/" DRIVER "-reg.sock",
        CSI DRIVER,
        CSI DRIVER "/" HASH,
        CSI DRIVER "/" HASH "/globalmount/x",
        CSI DRIVER "/" HASH "/globalmounts",
        CSI DRIVER "/" HASH "/vol_data.json",
        CSI DRIVER "/pv/globalmount",
        /* another driver's, and another volume's */
        CSI "other.csi/" HASH "/globalmount",
        CSI DRIVER ".x/" HASH "/globalmount",
        CSI DRIVER "/0" HASH "/globalmount",
        CSI DRIVER "/e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855/globalmount",
        CSI "volumeDevices",
        CSI "volumeDevices/staging",
        CSI "volumeDevices/staging/",
        CSI "volumeDevices/staging/pvc-1/x",
        CSI "volumeDevices/publish/pvc-1",
        CSI "volumeDevices/publish/pvc-1/" UID "/x",
        CSI "volumeDevices/publish/pvc-1/..",
        CSI "volumeDevices/pvc-1/dev",
        CSI "volumeDevices/pvc-1/dev/" UID "/x",
    };
    struct error err;

    for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
        if (fits(KUBELET_PLACES, bad[i], &err))
            fail_msg("%s", bad[i]);
        assert_int_equal(ERROR_INVALID_ARGUMENT, err.code);
    }
}

static void names_have_the_length_of_kubernetes_names(void **state UNUSED)
{
    char rest[600];
    struct error err;

    (void)snprintf(rest, sizeof(rest), CSI "volumeDevices/staging/%0253d", 0);
    assert_ok(fits(KUBELET_PLACES, rest, &err));
    (void)snprintf(rest, sizeof(rest), CSI "volumeDevices/staging/%0254d", 0);
    assert_refused(ERROR_INVALID_ARGUMENT, fits(KUBELET_PLACES, rest, &err));
}

static void a_refusal_names_what_is_expected(void **state UNUSED)
{
    struct error err;

    assert_false(fits(KUBELET_STAGING, "pki", &err));
    assert_contains(err.text, "expected below --mount-root: plugins/kubernetes.io/csi/" DRIVER
                              "/SHA256-OF-VOLUME-ID/globalmount;");
    assert_false(fits(KUBELET_TARGETS, "pki", &err));
    assert_contains(err.text, "pods/POD-UID/volumes/kubernetes.io~csi/PV/mount, or plugins/");
    assert_contains(err.text, "--free-mount-root");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(bind_mounts_of_the_same_pod_are_known),
        cmocka_unit_test(other_pods_and_other_paths_are_other_users),
        cmocka_unit_test(devices_of_other_pods_are_other_users),
        cmocka_unit_test(kubelets_own_places_are_known_wherever_they_are_seen),
        cmocka_unit_test(the_pod_of_a_process_is_found),
        cmocka_unit_test(places_of_kubelet_are_taken),
        cmocka_unit_test(other_places_below_its_folder_are_refused),
        cmocka_unit_test(names_have_the_length_of_kubernetes_names),
        cmocka_unit_test(a_refusal_names_what_is_expected),
    };

    return RUN_TESTS(tests);
}
