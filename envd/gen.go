package envd

//go:generate sh -c "cd proto && go tool -modfile=../../tools/go.mod buf generate"
