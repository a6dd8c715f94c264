package cli

import "testing"

func TestEnvironment(t *testing.T) {
	for name, test := range map[string]struct {
		variables map[string]string
		args      []string
		want      flagsOf
	}{
		"none":             {want: flagsOf{name: "fallback", listen: ":1", mode: "fast"}},
		"set":              {map[string]string{"TOOL_SOME_NAME": "found"}, nil, flagsOf{name: "found", listen: ":1", mode: "fast"}},
		"a flag wins":      {map[string]string{"TOOL_SOME_NAME": "found"}, []string{"--some-name=typed"}, flagsOf{name: "typed", listen: ":1", mode: "fast"}},
		"empty is none":    {map[string]string{"TOOL_SOME_NAME": "", "TOOL_LISTEN": ""}, nil, flagsOf{name: "fallback", listen: ":1", mode: "fast"}},
		"has to be typed":  {map[string]string{"TOOL_YES": "true"}, nil, flagsOf{name: "fallback", listen: ":1", mode: "fast"}},
		"another's":        {map[string]string{"OTHER_USER": "them"}, nil, flagsOf{name: "fallback", listen: ":1", mode: "fast", user: "them"}},
		"not its own then": {map[string]string{"TOOL_USER": "them"}, nil, flagsOf{name: "fallback", listen: ":1", mode: "fast"}},
	} {
		t.Run(name, func(t *testing.T) {
			for variable, value := range test.variables {
				t.Setenv(variable, value)
			}
			var got flagsOf
			p, root := program(&got)
			if _, err := execute(p, root, append([]string{"do", "a"}, test.args...)...); err != nil {
				t.Fatal(err)
			}
			if got.name != test.want.name || got.listen != test.want.listen || got.mode != test.want.mode || got.user != test.want.user || got.yes != test.want.yes {
				t.Errorf("flags are %+v, want %+v", got, test.want)
			}
		})
	}
}

func TestEnvironment_SaysWhichVariableIsWrong(t *testing.T) {
	t.Setenv("TOOL_MODE", "loud")
	p, root := program(new(flagsOf))
	want := `invalid TOOL_MODE "loud" in the environment: expected one of fast, slow`
	if _, err := execute(p, root, "do", "a"); err == nil || err.Error() != want || !IsUsage(err) {
		t.Errorf("error %v, want %s, as wrong usage", err, want)
	}
}

func TestWasTyped(t *testing.T) {
	t.Setenv("TOOL_COUNT", "7")
	var f flagsOf
	p, root := program(&f)
	if _, err := execute(p, root, "do", "a", "--mode=slow"); err != nil {
		t.Fatal(err)
	}
	do, _, err := root.Find([]string{"do"})
	if err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]bool{"mode": true, "count": false, "list": false} {
		if got := WasTyped(do.Flags(), name); got != want {
			t.Errorf("--%s was typed: %t, want %t", name, got, want)
		}
	}
	if f.count != 7 || !do.Flags().Changed("count") {
		t.Errorf("count is %d, want the environment's, as one that was given", f.count)
	}
}
