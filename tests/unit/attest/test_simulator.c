/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/unit/attest/scene.h"

#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

static void default_scene_is_accepted(void **state)
{
    auto_scene struct scene *s = scene_new();

    (void)state;
    assert_string_equal(scene_judge(s), "");
    assert_memory_equal(s->verified.platform.fmspc, s->platform.fmspc, FMSPC_LEN);
    assert_memory_equal(s->verified.platform.tcb_svn, s->platform.tcb_svn, TCB_SVN_LEN);
    assert_int_equal(s->verified.platform.pce_svn, s->platform.pce_svn);
    assert_true(s->verified.platform.has_platform_id);
    assert_memory_equal(s->verified.platform.platform_id, s->platform.platform_id, PLATFORM_ID_LEN);
    assert_int_equal(s->verified.tcb_evaluation_number, s->tcb.tcb_evaluation_number);
}

static void every_form_of_a_quote_is_accepted(void **state)
{
    static const struct {
        uint16_t version, body_type;
        size_t trailing_zeros, auth_len;
        bool chain_nul;
    } forms[] = {
        { 4, 2, 70, 32, true }, { 4, 2, 0, 0, false },      { 5, 2, 0, 32, false },
        { 5, 3, 0, 32, false }, { 5, 3, 3065, 1024, true },
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(forms); i++) {
        auto_scene struct scene *s = scene_new();

        s->td.version = forms[i].version;
        s->td.body_type = forms[i].body_type;
        s->quoting.trailing_zeros = forms[i].trailing_zeros;
        s->quoting.auth_len = forms[i].auth_len;
        s->quoting.chain_nul = forms[i].chain_nul;
        assert_string_equal(scene_run(s), "");
    }
}

static void platform_of_the_processor_ca_is_accepted(void **state)
{
    auto_scene struct scene *s = scene_new();

    (void)state;
    s->platform.ca = s->tcb.ca = PCK_CA_PROCESSOR;
    s->platform.sgx_type = 0;
    scene_replace_machine(s);
    assert_string_equal(scene_run(s), "");
    assert_false(s->verified.platform.has_platform_id);
}

static void intel_does_not_know_the_simulator(void **state)
{
    auto_scene struct scene *s = scene_new();

    (void)state;
    s->root = trust_root_intel;
    assert_string_equal(scene_judge(s), "PckRootUnknown");
}

static void kept_pki_is_the_same(void **state)
{
    char dir[] = "/tmp/tdvol-sim-XXXXXX", path[64];
    auto_scene struct scene *s = scene_new();
    static const char *const names[] = { "sim-pki.pem", "root.der" };
    struct stat st;

    (void)state;
    assert_non_null(mkdtemp(dir));
    sim_pki_save(s->pki, dir);
    struct sim_pki *loaded = sim_pki_load(dir);
    assert_memory_equal(sim_pki_root(loaded)->sha256, s->root.sha256, 32);
    s->pki = loaded;
    scene_replace_machine(s);
    assert_string_equal(scene_run(s), "");
    sim_pki_free(loaded);
    for (size_t i = 0; i < ARRAY_LEN(names); i++) {
        (void)snprintf(path, sizeof(path), "%s/%s", dir, names[i]);
        assert_int_equal(stat(path, &st), 0);
        assert_true(i == 1 || (st.st_mode & 077) == 0); /* sim-pki.pem has the keys */
        assert_int_equal(unlink(path), 0);
    }
    assert_int_equal(rmdir(dir), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(default_scene_is_accepted),
        cmocka_unit_test(every_form_of_a_quote_is_accepted),
        cmocka_unit_test(platform_of_the_processor_ca_is_accepted),
        cmocka_unit_test(intel_does_not_know_the_simulator),
        cmocka_unit_test(kept_pki_is_the_same),
    };

    return RUN_TESTS(tests);
}
