/* SPDX-License-Identifier: Apache-2.0 */
#include "record/fs_type.h"
#include "tests/unit/test.h"

static void a_file_system_is_known_by_its_exact_name(void **state)
{
    static const char *const unknown[] = { "", "ext", "ext44", "EXT4", "xfs ", "vfat", "*" };
    enum fs_type type = FS_TYPE_COUNT;

    (void)state;
    assert_true(fs_type_find("ext4", &type));
    assert_int_equal(type, FS_EXT4);
    assert_true(fs_type_find("xfs", &type));
    assert_int_equal(type, FS_XFS);
    assert_true(fs_type_find(FS_TYPE_DEFAULT, &type));
    for (size_t i = 0; i < ARRAY_LEN(unknown); i++)
        assert_false(fs_type_find(unknown[i], &type));
}

static void the_choices_for_messages_are_the_table(void **state)
{
    char text[] = FS_TYPE_CHOICES;
    unsigned n = 0;
    enum fs_type type;

    (void)state;
    for (char *rest = text, *word; (word = strsep(&rest, " "));) {
        if (strcmp(word, "or") == 0)
            continue;
        assert_true(fs_type_find(word, &type));
        n++;
    }
    assert_int_equal(n, FS_TYPE_COUNT);
}

static void a_file_system_has_a_smallest_size(void **state)
{
    (void)state;
    assert_true(fs_type_min_bytes(FS_EXT4) == 8u << 20);
    assert_true(fs_type_min_bytes(FS_XFS) == 300u << 20);
    assert_true(fs_type_min_bytes(FS_TYPE_COUNT) == 0);
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_file_system_is_known_by_its_exact_name),
        cmocka_unit_test(the_choices_for_messages_are_the_table),
        cmocka_unit_test(a_file_system_has_a_smallest_size),
    };

    return RUN_TESTS(tests);
}
