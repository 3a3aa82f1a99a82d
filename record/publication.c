/* SPDX-License-Identifier: Apache-2.0 */
#include "record/publication.h"

#include "base/utf8.h"

#include <stdio.h>
#include <string.h>

#define ITEM_MAX (NODE_ID_MAX + 3) /* "w:", the id, a space */

static size_t node_len(const char *node_id)
{
    return strcspn(node_id, (const char[]){ PUBLICATION_SEPARATOR, '\0' });
}

bool node_id_is_of(const char *node_id, const char *node)
{
    size_t len = node_len(node_id);

    return strlen(node) == len && strncmp(node_id, node, len) == 0;
}

const char *node_id_below(const char *node_id)
{
    size_t len = node_len(node_id);

    return node_id[len] == '\0' ? "" : node_id + len + 1;
}

void node_id_node(const char *node_id, char out[static NODE_ID_MAX + 1])
{
    (void)snprintf(out, NODE_ID_MAX + 1, "%.*s", (int)node_len(node_id), node_id);
}

static const char letters[] = {
    [PUBLICATION_READ] = 'r', [PUBLICATION_WRITE] = 'w', [PUBLICATION_LEAVING] = 'l'
};

static enum publication mode_of(char letter)
{
    return letter == 'r'   ? PUBLICATION_READ
           : letter == 'w' ? PUBLICATION_WRITE
                           : PUBLICATION_LEAVING;
}

static const char *use_of(enum publication mode)
{
    return mode == PUBLICATION_READ    ? "for reading"
           : mode == PUBLICATION_WRITE ? "for writing"
                                       : "and is being detached there";
}

bool publication_next(const struct record_publications *list, size_t *at,
                      char node_id[static NODE_ID_MAX + 1], enum publication *mode)
{
    const char *item = list->nodes + *at;
    size_t len = strcspn(item, " ");

    if (len < 3 || len - 2 > NODE_ID_MAX)
        return false;
    *mode = mode_of(item[0]);
    memcpy(node_id, item + 2, len - 2);
    node_id[len - 2] = '\0';
    *at += item[len] == ' ' ? len + 1 : len;
    return true;
}

enum publication publication_of_node(const struct record_publications *list, const char *node)
{
    char node_id[NODE_ID_MAX + 1];
    enum publication mode;

    for (size_t at = 0; publication_next(list, &at, node_id, &mode);)
        if (node_id_is_of(node_id, node))
            return mode;
    return PUBLICATION_NONE;
}

enum publication publication_of_id(const struct record_publications *list, const char *node_id)
{
    char other[NODE_ID_MAX + 1];
    enum publication mode;

    for (size_t at = 0; publication_next(list, &at, other, &mode);)
        if (strcmp(other, node_id) == 0)
            return mode;
    return PUBLICATION_NONE;
}

/* What the text of a record may have (record/encoding.h), and no space. */
bool node_id_check(const char *node_id, struct error *err)
{
    size_t len = strlen(node_id), n = 0;
    uint32_t character = 0;

    if (node_len(node_id) == 0)
        return error_set(err, ERROR_INVALID_ARGUMENT,
                         "node_id is missing, or has no name of a node");
    if (len > NODE_ID_MAX)
        return error_set(err, ERROR_INVALID_ARGUMENT, "node_id is longer than %d bytes",
                         NODE_ID_MAX);
    for (size_t i = 0; i < len; i += n) {
        n = utf8_next((const uint8_t *)node_id + i, len - i, &character);
        if (n == 0 || character <= ' ' || utf8_is_control(character))
            return error_set(err, ERROR_INVALID_ARGUMENT,
                             "node_id has a space or a control character, or is not valid UTF-8");
    }
    return true;
}

static bool check_others(const struct record_publications *list, const char *node_id,
                         bool read_only, struct error *err)
{
    char other[NODE_ID_MAX + 1];
    enum publication mode;

    for (size_t at = 0; publication_next(list, &at, other, &mode);)
        if (strcmp(other, node_id) != 0 && (!read_only || mode != PUBLICATION_READ))
            return error_set(err, ERROR_FAILED_PRECONDITION,
                             "the volume is published to node %s %s", other, use_of(mode));
    return true;
}

/* False when the list is full. */
static bool append(struct record_publications *list, const char *node_id, enum publication mode)
{
    char item[ITEM_MAX + 1];
    size_t used = strlen(list->nodes);
    int len = snprintf(item, sizeof(item), "%s%c:%s", used > 0 ? " " : "", letters[mode], node_id);

    if (len < 0 || used + (size_t)len > RECORD_PUBLISHED_MAX)
        return false;
    memcpy(list->nodes + used, item, (size_t)len + 1);
    return true;
}

/* Gives these ids ("": all) another mode, or removes them. No item gets longer. */
static bool rewrite(struct record_publications *list, const char *node_id, enum publication mode)
{
    struct record_publications rest = { .epoch = list->epoch };
    char other[NODE_ID_MAX + 1];
    enum publication was;
    bool changed = false;

    for (size_t at = 0; publication_next(list, &at, other, &was);) {
        bool is_meant = node_id[0] == '\0' || strcmp(other, node_id) == 0;

        changed = changed || (is_meant && was != mode);
        if (!is_meant || mode != PUBLICATION_NONE)
            (void)append(&rest, other, is_meant ? mode : was);
    }
    if (!changed)
        return false;
    rest.epoch++;
    *list = rest;
    return true;
}

bool publication_add(struct record_publications *list, const char *node_id, bool read_only,
                     struct error *err)
{
    enum publication wanted = read_only ? PUBLICATION_READ : PUBLICATION_WRITE;
    enum publication found = publication_of_id(list, node_id);

    if (!node_id_check(node_id, err) || !check_others(list, node_id, read_only, err))
        return false;
    if (found == PUBLICATION_LEAVING)
        return rewrite(list, node_id, wanted);
    if (found != PUBLICATION_NONE && found != wanted)
        return error_set(err, ERROR_ALREADY_EXISTS, "the volume is published to node %s %s",
                         node_id, use_of(found));
    if (found == wanted)
        return true;
    if (!append(list, node_id, wanted))
        return error_set(err, ERROR_RESOURCE_EXHAUSTED,
                         "the volume is published to as many nodes as its record can name (%d "
                         "bytes)",
                         RECORD_PUBLISHED_MAX);
    list->epoch++;
    return true;
}

void publication_retire(struct record_publications *list, const char *node_id, bool *changed)
{
    *changed = rewrite(list, node_id, PUBLICATION_LEAVING);
}

void publication_remove(struct record_publications *list, const char *node_id, bool *changed)
{
    *changed = rewrite(list, node_id, PUBLICATION_NONE);
}

/* Builds the list anew from its own items: only a list that was built so has the same text. */
bool publication_check(const struct record_publications *list, struct error *err)
{
    struct record_publications made = { .epoch = 0 };
    struct error why = ERROR_INIT;
    char node_id[NODE_ID_MAX + 1];
    enum publication mode;
    size_t n = 0, n_writers = 0;
    bool ok = true;

    for (size_t at = 0; ok && publication_next(list, &at, node_id, &mode); n++) {
        ok = node_id_check(node_id, &why) &&
             publication_of_id(&made, node_id) == PUBLICATION_NONE && append(&made, node_id, mode);
        n_writers += mode == PUBLICATION_WRITE;
    }
    return (ok && strcmp(made.nodes, list->nodes) == 0 && (n_writers == 0 || n == 1)) ||
           error_set(err, ERROR_INVALID_ARGUMENT, "published.nodes is not a list of node ids");
}
