/* SPDX-License-Identifier: Apache-2.0 */
#include "plugin/volume_id.h"
#include "tests/unit/test.h"

static struct error err;

static void make(enum volume_id_kind kind, const char *driver, const char *name,
                 char out[static VOLUME_ID_LEN + 1])
{
    assert_ok(volume_id_make(kind, driver, name, out, &err));
}

static void id_follows_from_the_name(void **state UNUSED)
{
    char a[VOLUME_ID_LEN + 1], b[VOLUME_ID_LEN + 1];

    make(VOLUME_ID_VOLUME, "driver", "name", a);
    make(VOLUME_ID_VOLUME, "driver", "name", b);
    assert_string_equal(a, b);
    assert_int_equal(strlen(a), VOLUME_ID_LEN);
    /* printf 'driver\0name' | sha256sum, its first 16 bytes in base32 */
    assert_string_equal(a, "vjm3ztqmelfwclabvvroo5pe5ru");
}

static void other_names_drivers_and_kinds_have_other_ids(void **state UNUSED)
{
    char a[VOLUME_ID_LEN + 1], b[VOLUME_ID_LEN + 1];

    make(VOLUME_ID_VOLUME, "driver", "name", a);
    make(VOLUME_ID_VOLUME, "driver", "name2", b);
    assert_string_not_equal(a, b);
    make(VOLUME_ID_VOLUME, "drivername", "", b);
    assert_string_not_equal(a, b);
    make(VOLUME_ID_SNAPSHOT, "driver", "name", b);
    assert_string_not_equal(a, b);
    assert_string_equal(a + 1, b + 1);
}

static void ids_are_known_by_their_form(void **state UNUSED)
{
    static const char *const bad[] = { "",
                                       "v",
                                       "fake-vol-id-1a2b3c4d-5",
                                       "vaaaaaaaaaaaaaaaaaaaaaaaaa",
                                       "vaaaaaaaaaaaaaaaaaaaaaaaaaaa",
                                       "vaaaaaaaaaaaaaaaaaaaaaaaaa1",
                                       "vaaaaaaaaaaaaaaaaaaaaaaaaaA",
                                       "v../../../../../../etc/pass",
                                       "saaaaaaaaaaaaaaaaaaaaaaaaaa" };
    char id[VOLUME_ID_LEN + 1];

    make(VOLUME_ID_VOLUME, "d", "n", id);
    assert_true(volume_id_is(VOLUME_ID_VOLUME, id));
    assert_false(volume_id_is(VOLUME_ID_SNAPSHOT, id));
    for (size_t i = 0; i < ARRAY_LEN(bad); i++)
        assert_false(volume_id_is(VOLUME_ID_VOLUME, bad[i]));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(id_follows_from_the_name),
        cmocka_unit_test(other_names_drivers_and_kinds_have_other_ids),
        cmocka_unit_test(ids_are_known_by_their_form),
    };

    return RUN_TESTS(tests);
}
