/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include "audit/audit.h"
#include "audit/audit_line.h"
#include "tests/unit/broker/store_place.h"

/* Logs of brokers in a folder of their own, made by the broker's code. */
struct logs {
    char dir[64];
    struct secret key; /* master and root key */
};

void logs_setup(struct logs *logs);
void logs_teardown(struct logs *logs);
const char *logs_path(const struct logs *logs, const char *name); /* until the fourth next call */

/* A broker "NAME" with a store of its own in memory writes its log to the file NAME, as many lines as
 * values; where a value is "|" the file is renamed to NAME.1, NAME.2 and so on, and a new one begun.
 * Copies the store's head to *head unless it is NULL. */
void logs_write(const struct logs *logs, const char *name, const char *const *values, size_t n,
                struct audit_chain *head);

char *logs_read(const struct logs *logs, const char *name, size_t *len);
void logs_put(const struct logs *logs, const char *name, const void *bytes, size_t len);
void logs_remove(const struct logs *logs, const char *name);
/* Byte number of the start of a line, from 0. */
size_t logs_line(const char *text, unsigned number);
