/* SPDX-License-Identifier: Apache-2.0 */
#include "csi/parameters.h"
#include "tests/unit/test.h"

static struct error err;

static bool takes(const char *key, const char *value)
{
    struct parameters parameters = PARAMETERS_INIT;

    return parameters_set(&parameters, key, value, &err) && parameters_check(&parameters, &err);
}

static void nothing_given_means_the_defaults(void **state UNUSED)
{
    struct parameters parameters = PARAMETERS_INIT;

    assert_ok(parameters_check(&parameters, &err));
    const struct volume_spec spec = parameters_spec(&parameters, INTEGRITY_HMAC_SHA256);
    assert_int_equal(spec.integrity, INTEGRITY_HMAC_SHA256);
    assert_int_equal(spec.provisioning, PROVISIONING_THICK);
    assert_int_equal(spec.workqueue, WORKQUEUE_AUTO);
    assert_false(spec.discard);
    assert_false(spec.no_journal);
}

static void named_mode_beats_the_default(void **state UNUSED)
{
    static const struct {
        const char *name;
        uint32_t integrity;
    } rows[] = { { "aegis128", INTEGRITY_AEGIS128 },
                 { "hmac-sha256", INTEGRITY_HMAC_SHA256 },
                 { "none", INTEGRITY_NONE } };

    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        struct parameters parameters = PARAMETERS_INIT;

        assert_ok(parameters_set(&parameters, "integrity", rows[i].name, &err));
        assert_int_equal(parameters_spec(&parameters, 99).integrity, rows[i].integrity);
        assert_string_equal(integrity_name(rows[i].integrity), rows[i].name);
    }
}

static void unknown_keys_and_values_are_refused_by_name(void **state UNUSED)
{
    assert_refused(ERROR_INVALID_ARGUMENT, takes("Integrity", "none"));
    assert_contains(err.text, "Integrity");
    assert_refused(ERROR_INVALID_ARGUMENT, takes("integrity", "sha1"));
    assert_contains(err.text, "sha1");
    assert_refused(ERROR_INVALID_ARGUMENT, takes("integrity", ""));
    assert_refused(ERROR_INVALID_ARGUMENT, takes("provisioning", "lazy"));
    assert_refused(ERROR_INVALID_ARGUMENT, takes("discard", "true"));
    assert_refused(ERROR_INVALID_ARGUMENT, takes("journal", "bitmap"));
    assert_refused(ERROR_INVALID_ARGUMENT, takes("acceptLossAfterCrash", "yes"));
    assert_refused(ERROR_INVALID_ARGUMENT, takes("workqueue", "bypass"));
    assert_refused(ERROR_INVALID_ARGUMENT, takes("", ""));
    assert_refused(ERROR_INVALID_ARGUMENT, takes("csi.storage.k8s.io/fstype", "btrfs"));
    assert_refused(ERROR_INVALID_ARGUMENT, takes("csi.storage.k8s.io/other", "x"));
}

static void words_of_the_provisioner_mean_nothing(void **state UNUSED)
{
    assert_ok(takes("csi.storage.k8s.io/pvc/name", "data"));
    assert_ok(takes("csi.storage.k8s.io/pvc/namespace", "default"));
    assert_ok(takes("csi.storage.k8s.io/pv/name", "pvc-1"));
    assert_ok(takes("csi.storage.k8s.io/provisioner-secret-name", "${pvc.name}"));
    assert_ok(takes("csi.storage.k8s.io/node-stage-secret-namespace", "default"));
    assert_ok(takes("csi.storage.k8s.io/fstype", "xfs"));
}

static void discard_needs_a_volume_without_integrity(void **state UNUSED)
{
    struct parameters parameters = PARAMETERS_INIT;

    assert_ok(parameters_set(&parameters, "discard", "on", &err));
    assert_refused(ERROR_INVALID_ARGUMENT, parameters_check(&parameters, &err));
    assert_ok(parameters_set(&parameters, "integrity", "none", &err));
    assert_ok(parameters_check(&parameters, &err));
}

static void journal_is_off_only_when_the_risk_is_accepted(void **state UNUSED)
{
    struct parameters parameters = PARAMETERS_INIT;

    assert_ok(parameters_set(&parameters, "journal", "off", &err));
    assert_refused(ERROR_INVALID_ARGUMENT, parameters_check(&parameters, &err));
    assert_contains(err.text, "acceptLossAfterCrash=true");
    assert_ok(parameters_set(&parameters, "acceptLossAfterCrash", "true", &err));
    assert_ok(parameters_check(&parameters, &err));
    assert_true(parameters_spec(&parameters, INTEGRITY_AEGIS128).no_journal);
    assert_false(parameters_spec(&parameters, INTEGRITY_NONE).no_journal);
    assert_ok(parameters_set(&parameters, "integrity", "none", &err));
    assert_refused(ERROR_INVALID_ARGUMENT, parameters_check(&parameters, &err));
}

static void workqueue_has_three_values(void **state UNUSED)
{
    static const struct {
        const char *name;
        enum workqueue workqueue;
    } rows[] = { { "auto", WORKQUEUE_AUTO }, { "on", WORKQUEUE_ON }, { "off", WORKQUEUE_OFF } };

    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        struct parameters parameters = PARAMETERS_INIT;

        assert_ok(parameters_set(&parameters, "workqueue", rows[i].name, &err));
        assert_int_equal(parameters_spec(&parameters, INTEGRITY_NONE).workqueue, rows[i].workqueue);
    }
}

static void fencing_has_two_values(void **state UNUSED)
{
    struct parameters parameters = PARAMETERS_INIT;

    assert_int_equal(parameters_spec(&parameters, INTEGRITY_NONE).fencing, FENCING_NONE);
    assert_ok(parameters_set(&parameters, "fencing", "suspend", &err));
    assert_int_equal(parameters_spec(&parameters, INTEGRITY_NONE).fencing, FENCING_SUSPEND);
    assert_ok(parameters_set(&parameters, "fencing", "none", &err));
    assert_int_equal(parameters_spec(&parameters, INTEGRITY_NONE).fencing, FENCING_NONE);
    assert_refused(ERROR_INVALID_ARGUMENT, parameters_set(&parameters, "fencing", "on", &err));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(fencing_has_two_values),
        cmocka_unit_test(nothing_given_means_the_defaults),
        cmocka_unit_test(named_mode_beats_the_default),
        cmocka_unit_test(unknown_keys_and_values_are_refused_by_name),
        cmocka_unit_test(words_of_the_provisioner_mean_nothing),
        cmocka_unit_test(discard_needs_a_volume_without_integrity),
        cmocka_unit_test(journal_is_off_only_when_the_risk_is_accepted),
        cmocka_unit_test(workqueue_has_three_values),
    };

    return RUN_TESTS(tests);
}
