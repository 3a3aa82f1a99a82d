/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include <stddef.h>

/* Joins the names of a table's rows ("tdx, snp") for an error text. Cut when too long. */
struct name_list {
    char text[128];
};
void name_list_add(struct name_list *list, const char *name);
