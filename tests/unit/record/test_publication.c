/* SPDX-License-Identifier: Apache-2.0 */
#include "record/publication.h"
#include "tests/unit/test.h"

#include <stdio.h>

static struct record_publications list_of(const char *nodes)
{
    struct record_publications list = { .epoch = 7 };

    assert_true(strlen(nodes) < sizeof(list.nodes));
    memcpy(list.nodes, nodes, strlen(nodes) + 1);
    return list;
}

static void add(struct record_publications *list, const char *node_id, bool read_only)
{
    struct error err = ERROR_INIT;

    assert_ok(publication_add(list, node_id, read_only, &err));
    assert_ok(publication_check(list, &err));
}

/* A refused node id changes nothing. */
static void refuse(struct record_publications *list, enum error_code code, const char *node_id,
                   bool read_only, const char *why)
{
    const struct record_publications before = *list;
    struct error err = ERROR_INIT;

    assert_refused(code, publication_add(list, node_id, read_only, &err));
    assert_contains(err.text, why);
    assert_memory_equal(&before, list, sizeof(before));
}

static bool remove_id(struct record_publications *list, const char *node_id)
{
    struct error err = ERROR_INIT;
    uint64_t epoch = list->epoch;
    bool changed = false;

    publication_remove(list, node_id, &changed);
    assert_int_equal(list->epoch, epoch + changed);
    assert_ok(publication_check(list, &err));
    return changed;
}

static void one_node_writes_and_no_other_one_joins_it(void **state)
{
    struct record_publications list = list_of("");

    (void)state;
    add(&list, "n1~i-1", false);
    assert_string_equal(list.nodes, "w:n1~i-1");
    refuse(&list, ERROR_FAILED_PRECONDITION, "n2", false, "published to node n1~i-1 for writing");
    refuse(&list, ERROR_FAILED_PRECONDITION, "n2", true, "published to node n1~i-1 for writing");
    refuse(&list, ERROR_ALREADY_EXISTS, "n1~i-1", true, "published to node n1~i-1 for writing");
    assert_int_equal(publication_of_node(&list, "n1"), PUBLICATION_WRITE);
}

static void many_nodes_read_and_none_writes_then(void **state)
{
    struct record_publications list = list_of("");

    (void)state;
    add(&list, "n1", true);
    add(&list, "n2~i-2", true);
    add(&list, "n3", true);
    assert_string_equal(list.nodes, "r:n1 r:n2~i-2 r:n3");
    assert_int_equal(list.epoch, 10);
    refuse(&list, ERROR_FAILED_PRECONDITION, "n4", false, "published to node n1 for reading");
    refuse(&list, ERROR_FAILED_PRECONDITION, "n3", false, "published to node n1 for reading");
    assert_true(remove_id(&list, "n2~i-2"));
    assert_string_equal(list.nodes, "r:n1 r:n3");
    assert_true(remove_id(&list, "n1"));
    refuse(&list, ERROR_ALREADY_EXISTS, "n3", false, "published to node n3 for reading");
    assert_true(remove_id(&list, "n3"));
    assert_string_equal(list.nodes, "");
    add(&list, "n4", false);
}

static void an_id_that_is_there_already_changes_nothing(void **state)
{
    struct record_publications list = list_of("r:n1 r:n2");

    (void)state;
    add(&list, "n1", true);
    assert_string_equal(list.nodes, "r:n1 r:n2");
    assert_int_equal(list.epoch, 7);
}

static void a_node_that_is_leaving_keeps_writers_and_readers_away(void **state)
{
    struct record_publications list = list_of("w:n1");
    bool changed = false;

    (void)state;
    publication_retire(&list, "n2", &changed);
    assert_false(changed);
    publication_retire(&list, "n1", &changed);
    assert_true(changed);
    assert_string_equal(list.nodes, "l:n1");
    assert_int_equal(list.epoch, 8);
    assert_int_equal(publication_of_node(&list, "n1"), PUBLICATION_LEAVING);
    publication_retire(&list, "n1", &changed);
    assert_false(changed);
    refuse(&list, ERROR_FAILED_PRECONDITION, "n2", false, "node n1 and is being detached there");
    refuse(&list, ERROR_FAILED_PRECONDITION, "n2", true, "node n1 and is being detached there");
    add(&list, "n1", false); /* it stays */
    assert_string_equal(list.nodes, "w:n1");
    assert_int_equal(list.epoch, 9);
    list = list_of("r:n1 r:n2");
    publication_retire(&list, "n1", &changed);
    assert_string_equal(list.nodes, "l:n1 r:n2");
    refuse(&list, ERROR_FAILED_PRECONDITION, "n2", false, "node n1");
    publication_retire(&list, "", &changed);
    assert_string_equal(list.nodes, "l:n1 l:n2");
    assert_true(remove_id(&list, "n1"));
    assert_true(remove_id(&list, ""));
    assert_string_equal(list.nodes, "");
}

static void names_that_begin_alike_are_different_nodes(void **state)
{
    const struct record_publications list = list_of("r:node-10~i r:node-1~i-22");

    (void)state;
    assert_int_equal(publication_of_node(&list, "node-1"), PUBLICATION_READ);
    assert_int_equal(publication_of_node(&list, "node-10"), PUBLICATION_READ);
    assert_int_equal(publication_of_node(&list, "node"), PUBLICATION_NONE);
    assert_int_equal(publication_of_node(&list, "node-100"), PUBLICATION_NONE);
    assert_int_equal(publication_of_node(&list, "i"), PUBLICATION_NONE);
    assert_int_equal(publication_of_node(&list, ""), PUBLICATION_NONE);
    assert_int_equal(publication_of_node(&list, "node-1~i-22"), PUBLICATION_NONE);
    assert_int_equal(publication_of_id(&list, "node-1"), PUBLICATION_NONE);
    assert_int_equal(publication_of_id(&list, "node-1~i-2"), PUBLICATION_NONE);
    assert_int_equal(publication_of_id(&list, "node-1~i-22"), PUBLICATION_READ);
    assert_int_equal(publication_of_id(&list, ""), PUBLICATION_NONE);
}

static void the_parts_of_an_id_are_split_at_the_first_separator(void **state)
{
    static const struct {
        const char *id, *node, *below;
    } rows[] = { { "n", "n", "" },    { "n~i", "n", "i" },     { "n~", "n", "" },
                 { "n~~", "n", "~" }, { "n~i~j", "n", "i~j" }, { "~i", "", "i" },
                 { "~", "", "" },     { "", "", "" } };
    char node[NODE_ID_MAX + 1];

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        assert_true(node_id_is_of(rows[i].id, rows[i].node));
        assert_false(node_id_is_of(rows[i].id, "x"));
        assert_string_equal(node_id_below(rows[i].id), rows[i].below);
        node_id_node(rows[i].id, node);
        assert_string_equal(node, rows[i].node);
    }
}

/* The driver below calls them two nodes, and so they are. */
static void two_ids_of_one_node_are_two(void **state)
{
    struct record_publications list = list_of("");

    (void)state;
    add(&list, "n~1", false);
    refuse(&list, ERROR_FAILED_PRECONDITION, "n~2", false, "published to node n~1");
    refuse(&list, ERROR_FAILED_PRECONDITION, "n", false, "published to node n~1");
    assert_false(remove_id(&list, "n~2"));
    assert_false(remove_id(&list, "n"));
    assert_int_equal(publication_of_node(&list, "n"), PUBLICATION_WRITE);
    assert_true(remove_id(&list, "n~1"));
    add(&list, "n~1", true);
    add(&list, "n~2", true);
    assert_true(remove_id(&list, "n~1"));
    assert_int_equal(publication_of_node(&list, "n"), PUBLICATION_READ);
    assert_true(remove_id(&list, "n~2"));
    assert_int_equal(publication_of_node(&list, "n"), PUBLICATION_NONE);
}

static void nothing_of_an_empty_list_can_be_removed(void **state)
{
    struct record_publications list = list_of("");

    (void)state;
    assert_false(remove_id(&list, ""));
    assert_false(remove_id(&list, "n1"));
    list = list_of("r:n1 r:n2 r:n3");
    assert_false(remove_id(&list, "n"));
    assert_false(remove_id(&list, "r:n1"));
    assert_false(remove_id(&list, "n1 r:n2"));
    assert_true(remove_id(&list, ""));
    assert_string_equal(list.nodes, "");
}

static void ids_that_no_list_can_have_are_refused(void **state)
{
    char longest[NODE_ID_MAX + 2] = "";
    static const char *const bad[] = {
        "",    "~",     "~i",    " ",     "n 1",       "n\t1",      "n1 ", " n1",
        "n\n", "n\x7f", "n\x1b", "n\xff", "n\xc2\x85", "n\xc0\xa0", /* a longer spelling of a space */
    };
    struct record_publications list = list_of("r:n9");
    struct error err = ERROR_INIT;

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
        refuse(&list, ERROR_INVALID_ARGUMENT, bad[i], true, "node_id");
        assert_refused(ERROR_INVALID_ARGUMENT, node_id_check(bad[i], &err));
    }
    for (size_t i = 0; i <= NODE_ID_MAX; i++)
        longest[i] = 'n';
    refuse(&list, ERROR_INVALID_ARGUMENT, longest, true, "longer than 256");
    longest[NODE_ID_MAX] = '\0';
    add(&list, longest, true);
    assert_int_equal(publication_of_node(&list, longest), PUBLICATION_READ);
    add(&list, "n\xc3\xa4", true);
}

static void a_full_list_says_so_and_stays_as_it_is(void **state)
{
    struct record_publications list = list_of("");
    char node_id[16];
    struct error err = ERROR_INIT;

    (void)state;
    /* Each item is "r:" and 5 bytes, and a space in front of all but the first: 256 of them fit. */
    for (int i = 0; i < 256; i++) {
        (void)snprintf(node_id, sizeof(node_id), "n%04d", i);
        add(&list, node_id, true);
    }
    assert_int_equal(strlen(list.nodes), RECORD_PUBLISHED_MAX);
    refuse(&list, ERROR_RESOURCE_EXHAUSTED, "n", true, "as many nodes as its record can name");
    assert_true(remove_id(&list, "n0000"));
    add(&list, "n0256", true);
    refuse(&list, ERROR_RESOURCE_EXHAUSTED, "n", true, "as many nodes");
    assert_ok(publication_check(&list, &err));
}

static void texts_that_are_no_list_are_refused(void **state)
{
    static const char *const bad[] = {
        "n1",          "w",         "w:",        ":n1",        "x:n1",
        "W:n1",        " w:n1",     "w:n1 ",     "r:n1  r:n2", "w:n1 w:n2",
        "w:n1 r:n2",   "r:n1 w:n2", "r:n1 r:n1", "w:n1 w:n1",  "r:n1,r:n2 ",
        "w:n1 l:n2",   "L:n1",      "r:~",       "r:~i",       "r:n1 r:",
        "r:n1 r:n2 x", "wn1",       "w n1",      "w:n\t1",     "w:n1 r:n1",
    };
    struct record_publications list;
    struct error err = ERROR_INIT;

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
        list = list_of(bad[i]);
        if (publication_check(&list, &err))
            fail_msg("accepted: %s", bad[i]);
        assert_int_equal(err.code, ERROR_INVALID_ARGUMENT);
        assert_contains(err.text, "published.nodes");
    }
    list = list_of("");
    for (size_t i = 0; i < RECORD_PUBLISHED_MAX; i++)
        list.nodes[i] = 'w';
    assert_refused(ERROR_INVALID_ARGUMENT, publication_check(&list, &err));
    memcpy(list.nodes, "w:", 2);
    assert_refused(ERROR_INVALID_ARGUMENT, publication_check(&list, &err));
    list = list_of("");
    assert_ok(publication_check(&list, &err));
    list = list_of("r:n1~i-1 r:n1~i-2");
    assert_ok(publication_check(&list, &err));
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test(one_node_writes_and_no_other_one_joins_it),
        cmocka_unit_test(many_nodes_read_and_none_writes_then),
        cmocka_unit_test(an_id_that_is_there_already_changes_nothing),
        cmocka_unit_test(a_node_that_is_leaving_keeps_writers_and_readers_away),
        cmocka_unit_test(names_that_begin_alike_are_different_nodes),
        cmocka_unit_test(the_parts_of_an_id_are_split_at_the_first_separator),
        cmocka_unit_test(two_ids_of_one_node_are_two),
        cmocka_unit_test(nothing_of_an_empty_list_can_be_removed),
        cmocka_unit_test(ids_that_no_list_can_have_are_refused),
        cmocka_unit_test(a_full_list_says_so_and_stays_as_it_is),
        cmocka_unit_test(texts_that_are_no_list_are_refused),
    };

    return RUN_TESTS(tests);
}
