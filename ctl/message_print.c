/* SPDX-License-Identifier: Apache-2.0 */
#include "base/macro.h"
#include "ctl/message.h"
#include "ctl/size.h"

#include <ctype.h>
#include <stdio.h>
#include <string.h>

/*
 * A message becomes a row: a flat object that maps the path of each leaf to its text. A list of
 * objects becomes a table whose columns are the paths found in its rows.
 */
#define PATH_TEXT_MAX 256
#define DEPTH_MAX     8

static bool is_size(const char *path)
{
    static const char *const words[] = { "bytes", "_size", "capacity" };

    for (size_t i = 0; i < ARRAY_LEN(words); i++)
        if (strstr(path, words[i]))
            return true;
    return false;
}

static json_t *leaf_text(const char *path, const json_t *value)
{
    char size[SIZE_TEXT_LEN];

    if (json_is_string(value))
        return json_string(json_string_value(value));
    if (json_is_boolean(value))
        return json_string(json_is_true(value) ? "yes" : "no");
    if (!json_is_integer(value))
        return json_string("-");
    if (!is_size(path))
        return json_sprintf("%" JSON_INTEGER_FORMAT, json_integer_value(value));
    size_text((uint64_t)json_integer_value(value), size);
    return json_string(size);
}

/* Writes the list on one line. Objects in it become "...". */
static json_t *list_text(const char *path, const json_t *list)
{
    json_t *out = json_string(json_array_size(list) ? "" : "none");
    const json_t *item = NULL;
    size_t i = 0;

    json_array_foreach(list, i, item)
    {
        json_t *text = json_is_object(item) ? json_string("...") : leaf_text(path, item);
        json_t *longer =
            json_sprintf("%s%s%s", json_string_value(out), i ? " " : "", json_string_value(text));

        json_decref(text);
        json_decref(out);
        out = longer;
    }
    return out;
}

/* Removes const, because jansson cannot iterate over const objects. */
static json_t *readable(const json_t *value)
{
    const union {
        const json_t *in;
        json_t *out;
    } cast = { .in = value };

    return cast.out;
}

/* NOLINTNEXTLINE(misc-no-recursion): depth ends it */
static void flatten(json_t *row, const char *path, const json_t *value, int depth)
{
    const char *key = NULL;
    json_t *part = NULL;

    if (json_is_array(value)) {
        (void)json_object_set_new(row, path, list_text(path, value));
        return;
    }
    if (!json_is_object(value) || depth == 0) {
        (void)json_object_set_new(row, path, leaf_text(path, value));
        return;
    }
    json_object_foreach(readable(value), key, part)
    {
        char longer[PATH_TEXT_MAX];

        (void)snprintf(longer, sizeof(longer), "%s%s%s", path, *path ? "." : "", key);
        flatten(row, longer, part, depth - 1);
    }
}

static int text_width(const char *text)
{
    return text ? (int)strlen(text) : 0;
}

/* Without the first part of the path, which all rows share: "VOLUME ID" for "volume.volume_id". */
static const char *heading(const char *path)
{
    const char *dot = strchr(path, '.');

    return dot ? dot + 1 : path;
}

/* Maps the path of each column to its width. */
static json_t *table_columns(const json_t *rows)
{
    json_t *columns = json_object();
    json_t *row = NULL, *cell = NULL;
    const char *path = NULL;
    size_t i = 0;

    json_array_foreach(rows, i, row)
    {
        json_object_foreach(row, path, cell)
        {
            const json_t *known = json_object_get(columns, path);
            const int before = known ? (int)json_integer_value(known) : text_width(heading(path));
            const int here = text_width(json_string_value(cell));

            (void)json_object_set_new(columns, path, json_integer(here > before ? here : before));
        }
    }
    return columns;
}

/* row NULL: prints the headings. */
static void print_row(const json_t *columns, const json_t *row)
{
    const char *path = NULL;
    json_t *width = NULL;
    int gap = 0;

    json_object_foreach(readable(columns), path, width)
    {
        const char *text = row ? json_string_value(json_object_get(row, path)) : heading(path);

        if (text && *text)
            (void)printf("%*s", gap, "");
        for (const char *c = text ? text : ""; *c; c++)
            (void)putchar(row ? *c : *c == '_' ? ' ' : toupper((unsigned char)*c));
        gap = (text && *text ? 0 : gap) + (int)json_integer_value(width) - text_width(text) + 2;
    }
    (void)putchar('\n');
}

static void print_table(const json_t *list)
{
    json_t *rows = json_array();
    json_t *item = NULL;
    size_t i = 0;

    json_array_foreach(list, i, item)
    {
        json_t *row = json_object();

        flatten(row, "", item, DEPTH_MAX);
        (void)json_array_append_new(rows, row);
    }
    json_t *columns = table_columns(rows);
    print_row(columns, NULL);
    json_array_foreach(rows, i, item)
    {
        print_row(columns, item);
    }
    json_decref(columns);
    json_decref(rows);
}

static void print_fields(const json_t *fields)
{
    const char *path = NULL;
    json_t *text = NULL;
    int widest = 0;

    json_object_foreach(readable(fields), path, text)
    {
        widest = text_width(path) > widest ? text_width(path) : widest;
    }
    json_object_foreach(readable(fields), path, text)
    {
        if (*json_string_value(text))
            (void)printf("%-*s  %s\n", widest, path, json_string_value(text));
    }
}

/* Sorts the parts into plain fields and lists of objects. */
/* NOLINTNEXTLINE(misc-no-recursion): as deep as the message types */
static void collect(json_t *fields, json_t *tables, const char *path, const json_t *value)
{
    const char *key = NULL;
    json_t *part = NULL;

    json_object_foreach(readable(value), key, part)
    {
        char longer[PATH_TEXT_MAX];

        (void)snprintf(longer, sizeof(longer), "%s%s%s", path, *path ? "." : "", key);
        if (json_is_object(json_array_get(part, 0)))
            (void)json_object_set(tables, longer, part);
        else if (json_is_object(part))
            collect(fields, tables, longer, part);
        else
            flatten(fields, longer, part, DEPTH_MAX);
    }
}

void message_print(const json_t *message)
{
    json_t *fields = json_object(), *tables = json_object(), *table = NULL;
    const char *path = NULL;

    collect(fields, tables, "", message);
    print_fields(fields);
    json_object_foreach(tables, path, table)
    {
        if (json_object_size(fields) + json_object_size(tables) > 1)
            (void)printf("%s:\n", path);
        print_table(table);
    }
    json_decref(tables);
    json_decref(fields);
}
