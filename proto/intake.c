/* SPDX-License-Identifier: Apache-2.0 */
#include "proto/intake.h"

#include <string.h>

void intake_init(struct intake *intake)
{
    TAILQ_INIT(&intake->items);
    intake->n = 0;
}

static size_t count(const struct intake *intake, const char *network)
{
    const struct intake_item *item = TAILQ_FIRST(&intake->items);
    size_t n = 0;

    for (; item; item = TAILQ_NEXT(item, link))
        n += strcmp(item->network, network) == 0;
    return n;
}

bool intake_enter(struct intake *intake, struct intake_item *item, uint64_t now_ms)
{
    if (item->network[0] == '\0')
        return true;
    if (intake->n == INTAKE_ALL_MAX || count(intake, item->network) == INTAKE_EACH_MAX) {
        item->network[0] = '\0';
        return false;
    }
    item->since_ms = now_ms;
    TAILQ_INSERT_TAIL(&intake->items, item, link);
    intake->n++;
    return true;
}

void intake_leave(struct intake *intake, struct intake_item *item)
{
    if (item->network[0] == '\0')
        return;
    TAILQ_REMOVE(&intake->items, item, link);
    item->network[0] = '\0';
    intake->n--;
}

struct intake_item *intake_take_late(struct intake *intake, uint64_t now_ms)
{
    struct intake_item *first = TAILQ_FIRST(&intake->items);

    if (!first || now_ms - first->since_ms < INTAKE_MS)
        return NULL;
    intake_leave(intake, first);
    return first;
}
