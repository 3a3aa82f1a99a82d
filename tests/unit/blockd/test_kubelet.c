/* SPDX-License-Identifier: Apache-2.0 */
#include "blockd/kubelet.h"
#include "tests/unit/test.h"

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

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(bind_mounts_of_the_same_pod_are_known),
        cmocka_unit_test(other_pods_and_other_paths_are_other_users),
        cmocka_unit_test(devices_of_other_pods_are_other_users),
        cmocka_unit_test(the_pod_of_a_process_is_found),
    };

    return RUN_TESTS(tests);
}
