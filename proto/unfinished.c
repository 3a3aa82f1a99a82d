/* SPDX-License-Identifier: Apache-2.0 */
#include "proto/unfinished.h"

#include <string.h>

void unfinished_init(struct unfinished *intake)
{
    TAILQ_INIT(&intake->items);
    intake->n = 0;
}

static size_t count(const struct unfinished *intake, const char *network)
{
    const struct unfinished_item *item = TAILQ_FIRST(&intake->items);
    size_t n = 0;

    for (; item; item = TAILQ_NEXT(item, link))
        n += strcmp(item->network, network) == 0;
    return n;
}

bool unfinished_enter(struct unfinished *intake, struct unfinished_item *item, uint64_t now_ms)
{
    if (item->network[0] == '\0')
        return true;
    if (intake->n == UNFINISHED_ALL_MAX || count(intake, item->network) == UNFINISHED_EACH_MAX) {
        item->network[0] = '\0';
        return false;
    }
    item->since_ms = now_ms;
    TAILQ_INSERT_TAIL(&intake->items, item, link);
    intake->n++;
    return true;
}

void unfinished_leave(struct unfinished *intake, struct unfinished_item *item)
{
    if (item->network[0] == '\0')
        return;
    TAILQ_REMOVE(&intake->items, item, link);
    item->network[0] = '\0';
    intake->n--;
}

struct unfinished_item *unfinished_take_late(struct unfinished *intake, uint64_t now_ms)
{
    struct unfinished_item *first = TAILQ_FIRST(&intake->items);

    if (!first || now_ms - first->since_ms < UNFINISHED_MS)
        return NULL;
    unfinished_leave(intake, first);
    return first;
}
