/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include "ctl/broker.h"

/* What the commands for volumes share: how they find and show the broker's records. */

typedef Tdvol__Keybroker__V1__Record volume_record;

struct volume_walk {
    bool (*visit)(void *cookie, const volume_record *r); /* false: no more */
    void *cookie;
    bool gone; /* those that were deleted, in place of the others */
};

/* Visits all records, of one driver unless it is NULL. They live as long as the arena. */
MUST_USE bool volume_visit_all(struct client *client, const char *driver, struct arena *arena,
                               const struct volume_walk *walk, struct error *err);

/* The one record with the id of the command line, of any driver unless --driver names it. */
MUST_USE bool volume_by_id(const struct broker_options *options, struct client *client,
                           struct arena *arena, const volume_record **out, struct error *err);

/* The same among those that were deleted. */
MUST_USE bool volume_gone_by_id(const struct broker_options *options, struct client *client,
                                struct arena *arena, const volume_record **out, struct error *err);

/* The one that is there; otherwise the one that was deleted. */
MUST_USE bool volume_any_by_id(const struct broker_options *options, struct client *client,
                               struct arena *arena, const volume_record **out, struct error *err);

void volume_print(const volume_record *r);
void volume_print_generation(const volume_record *r); /* which secret opens it */

#define VOLUME_DRIVER_ROW(help) \
    OPTION_TEXT_ROW("driver", struct broker_options, driver, "NAME", help)
/* Of --driver, for a command about one volume. */
#define VOLUME_ONE_DRIVER "The volume's CSI driver; needed only when several drivers have this ID."
