/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "cloisterd/options.h"

#include <arpa/inet.h>
#include <string.h>

#define GOOD                                                                                     \
	"cloisterd", "--etc", "/etc/cloister", "--state", "/var/lib/cloister", "--run",          \
	"/run/cloister", "--images", "/images", "--bin", "/libexec", "--share", "/share",       \
	"--uid-base", "700000", "--user-broker", "901:902", "--user-api", "903:904",            \
	"--user-ledger", "905:906", "--user-spawner", "907:908", "--user-model", "909:910",     \
	"--api-gid", "911", "--listen", "127.0.0.1:8378", "--model-listen", "off"

static int parse(const char *const *argv, struct options *o, struct cl_err *err)
{
	int argc = 0;

	while (argv[argc])
		argc++;
	return options_parse(argc, (char **)(uintptr_t)argv, o, err);
}

static void a_full_command_line_is_understood(void **state)
{
	const char *argv[] = { GOOD, "--pass", "broker:--x=1", "--pass", "api:--y", NULL };
	struct cl_err err = { 0 };
	struct options o;

	(void)state;
	assert_int_equal(parse(argv, &o, &err), 0);
	assert_string_equal(o.etc, "/etc/cloister");
	assert_int_equal(o.uid_base, 700000);
	assert_int_equal(o.broker.uid, 901);
	assert_int_equal(o.model.gid, 910);
	assert_int_equal(o.api_gid, 911);
	assert_int_equal(ntohs(o.listen.sin_port), 8378);
	assert_int_equal(o.listen.sin_addr.s_addr, htonl(0x7f000001));
	assert_int_equal(o.model_listen.sin_port, 0);
	assert_int_equal(o.ready_fd, -1);
	assert_int_equal(o.npass, 2);
	assert_true(span_eq_str(o.pass[0].program, "broker"));
	assert_string_equal(o.pass[0].arg, "--x=1");
}

/* One more option or a changed value, and what the error must name. */
static void what_is_wrong_is_refused_by_name(void **state)
{
	static const struct { const char *name, *value, *says; } bad[] = {
		{ "--nothing", "1", "--nothing" },
		{ "--etc", "/again", "twice" },
		{ "--ready-fd", "2", "--ready-fd" },
		{ "--ready-fd", "999", "--ready-fd" },
		{ "--pass", "broker", "--pass" },
		{ "--pass", "broker:x", "--pass" },
		{ "--pass", ":--x", "--pass" },
		{ "--ready-fd", NULL, "no value" },
	};

	(void)state;
	for (size_t i = 0; i < CL_ARRAY_LEN(bad); i++) {
		const char *argv[] = { GOOD, bad[i].name, bad[i].value, NULL };
		struct cl_err err = { 0 };
		struct options o = { .ready_fd = 77 };

		assert_int_equal(parse(argv, &o, &err), -EINVAL);
		assert_non_null(strstr(err.text, bad[i].says));
		assert_int_equal(o.ready_fd, 77);	/* untouched */
	}
}

static void values_out_of_range_are_refused(void **state)
{
	static const struct { const char *name, *value; } bad[] = {
		{ "--etc", "etc" }, { "--uid-base", "1000" }, { "--uid-base", "-1" },
		{ "--uid-base", "4294967295" }, { "--uid-base", "0700000" },
		{ "--user-api", "0:1" }, { "--user-api", "1:0" }, { "--user-api", "1" },
		{ "--user-api", "root:root" }, { "--api-gid", "" }, { "--listen", "127.0.0.1" },
		{ "--listen", "localhost:80" }, { "--listen", "127.0.0.1:0" },
		{ "--listen", "127.0.0.1:65536" }, { "--listen", "127.0.0.1:80:80" },
		{ "--listen", "on" },
	};

	(void)state;
	for (size_t i = 0; i < CL_ARRAY_LEN(bad); i++) {
		const char *argv[] = { GOOD, NULL };
		struct cl_err err = { 0 };
		struct options o;

		for (size_t k = 1; argv[k]; k += 2)
			if (strcmp(argv[k], bad[i].name) == 0)
				argv[k + 1] = bad[i].value;
		assert_int_equal(parse(argv, &o, &err), -EINVAL);
		assert_non_null(strstr(err.text, bad[i].name));
	}
}

static void each_needed_option_is_missed_by_name(void **state)
{
	const char *all[] = { GOOD, NULL };
	size_t n = CL_ARRAY_LEN(all) - 1;

	(void)state;
	for (size_t skip = 1; skip < n; skip += 2) {
		const char *argv[CL_ARRAY_LEN(all)];
		struct cl_err err = { 0 };
		struct options o;
		size_t k = 0;

		for (size_t i = 0; i < n; i++)
			if (i != skip && i != skip + 1)
				argv[k++] = all[i];
		argv[k] = NULL;
		assert_int_equal(parse(argv, &o, &err), -EINVAL);
		assert_non_null(strstr(err.text, all[skip]));
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_full_command_line_is_understood),
		cmocka_unit_test(what_is_wrong_is_refused_by_name),
		cmocka_unit_test(values_out_of_range_are_refused),
		cmocka_unit_test(each_needed_option_is_missed_by_name),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
