/* SPDX-License-Identifier: Apache-2.0 */
/* Every shipped route passes the schema of the api and the reader of the broker. */
#include "broker/route/doc.h"
#include "policy/config.h"
#include "policy/schema.h"

#include <dirent.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

static int count;

static void load(int dir_fd, const char *file)
{
	char name[65];
	struct cl_err err = { 0 };
	struct route_doc *d;
	json_t *j = NULL;
	CL_BUF struct buf text;
	size_t n = strlen(file) - 5;
	bool other;

	(void)snprintf(name, sizeof name, "%.*s", (int)n, file);
	buf_init(&text, 1u << 20);
	assert_int_equal(cl_read_file(dir_fd, file, &text, &err), 0);
	if (schema_load(&route_schema, buf_span(&text), file, &j, &err))
		fail_msg("%s", err.text);
	assert_int_equal(json_object_set_new(j, "name", json_string(name)), 0);
	(void)json_object_del(j, "default_model");	/* the api's own */
	if (route_doc_new(&d, j, &err))
		fail_msg("%s: %s", file, err.text);
	assert_true(d->nallow > 0);
	assert_true(d->target.tls || d->target.allow_private);
	assert_true(d->secret[0] != '\0' || !d->target.tls);
	/* what `route test` calls must be something that an agent may call as well */
	if (d->test.method[0])
		assert_true(route_doc_allows(d, span_str(d->test.method), span_str(d->test.path), &other));
	route_doc_unref(d);
	json_decref(j);
	count++;
}

static void every_shipped_route_is_read(void **state)
{
	CL_CLOSE int dir_fd = cl_open_dir(ROUTES_DIR, NULL);
	DIR *dir = opendir(ROUTES_DIR);
	struct dirent *e;

	(void)state;
	assert_true(dir_fd >= 0 && dir != NULL);
	while ((e = readdir(dir)))
		if (strlen(e->d_name) > 5 && strcmp(e->d_name + strlen(e->d_name) - 5, ".yaml") == 0)
			load(dir_fd, e->d_name);
	(void)closedir(dir);
	assert_true(count >= 14);
}

int main(void)
{
	const struct CMUnitTest tests[] = { cmocka_unit_test(every_shipped_route_is_read) };

	return cmocka_run_group_tests(tests, NULL, NULL);
}
