/* SPDX-License-Identifier: Apache-2.0 */
/* doctor - what the walls need of this machine, found or missing, and what that means. */
#include "cli/up.h"
#include "sandbox/doctor.h"

#include <stdio.h>

static void show_item(const struct doctor_item *i)
{
	printf("%-8s %-24s %s\n", doctor_state_name(i->state), i->name, i->found);
	if (i->state != DOCTOR_FOUND)
		printf("         %s%s%s\n", i->means, i->fix && *i->fix ? "\n         fix: " : "",
		       i->fix ? i->fix : "");
}

/* the first that is missing, for a start that cannot be */
static int refuse(const struct doctor_item *items, size_t n)
{
	for (size_t i = 0; i < n; i++)
		if (items[i].state == DOCTOR_MISSING)
			(void)cli_fail(0, "missing: %s (%s); %s", items[i].name, items[i].means,
				       items[i].fix ? items[i].fix : "");
	return cli_fail(-1, "a wall cannot be put up on this machine: no start; see: cloister doctor");
}

int up_machine(void)
{
	struct doctor_item items[DOCTOR_MAX];
	size_t n = doctor_run(items);

	if (doctor_verdict(items, n) == DOCTOR_MISSING)
		return refuse(items, n);
	for (size_t i = 0; i < n; i++)
		if (items[i].state == DOCTOR_WEAK)
			(void)cli_fail(0, "warning: %s: %s; %s", items[i].name, items[i].found,
				       items[i].fix ? items[i].fix : "");
	return 0;
}

static json_t *as_json(const struct doctor_item *items, size_t n)
{
	json_t *list = json_array();

	for (size_t i = 0; i < n; i++)
		(void)json_array_append_new(list, json_pack("{s:s, s:I, s:s, s:s, s:s*, s:s*}", "name", items[i].name,
			"layer", (json_int_t)items[i].layer, "state", doctor_state_name(items[i].state), "found",
			items[i].found, "means", items[i].means, "fix", items[i].fix));
	return json_pack("{s:s, s:o}", "verdict", doctor_state_name(doctor_verdict(items, n)), "features", list);
}

int cmd_doctor(struct cli *c)
{
	struct doctor_item items[DOCTOR_MAX];
	size_t n = doctor_run(items);
	enum doctor_state worst = doctor_verdict(items, n);
	json_t *v = c->json ? as_json(items, n) : NULL;
	struct config cfg = { 0 };

	if (!client_print_json(c, v)) {
		for (size_t i = 0; i < n; i++)
			show_item(&items[i]);
		printf("\n%s\n", worst == DOCTOR_FOUND ? "every wall can be put up" :
		       worst == DOCTOR_WEAK ? "every wall can be put up; some without their second" :
		       "sandboxes cannot start on this machine");
	}
	json_decref(v);
	/* the configuration as well, as far as it can be read */
	if (!c->json && up_config(c, &cfg, false) == 0) {
		printf("configuration: good\n");
		config_done(&cfg);
	}
	return worst == DOCTOR_MISSING ? EXIT_FAILED : EXIT_OK;
}
