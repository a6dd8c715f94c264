package model

import (
	"os"
	"testing"

	"github.com/holdfast-storage/holdfast/state/statetest"
)

func TestMain(m *testing.M) { os.Exit(statetest.Main(m)) }
