// Reads a ledger's log with code that others wrote: signed notes and tiled trees of golang.org/x/mod,
// checkpoints and cosignatures of transparency-dev. Nothing of ours is trusted but the bytes served.
//
//	foreign FOLDER LOG_VKEY WITNESS_VKEY SEQ OLD_SIZE OLD_ROOT
package main

import (
	"encoding/base64"
	"encoding/binary"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/transparency-dev/formats/log"
	cosigned "github.com/transparency-dev/formats/note"
	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"
)

// folder holds the log's files under the paths of the format, as they were served.
type folder string

func (f folder) get(path string) []byte {
	content, err := os.ReadFile(filepath.Join(string(f), path))
	must(err)
	return content
}

// Height and SaveTiles are what tlog asks of a reader of tiles.
func (f folder) Height() int                         { return 8 }
func (f folder) SaveTiles(_ []tlog.Tile, _ [][]byte) {}

func (f folder) ReadTiles(tiles []tlog.Tile) ([][]byte, error) {
	found := make([][]byte, len(tiles))
	for i, tile := range tiles {
		// C2SP tlog-tiles fixes the height, so it is left out of the path
		found[i] = f.get("tile/" + strings.TrimPrefix(tile.Path(), "tile/8/"))
	}
	return found, nil
}

// entry gives the content of one leaf out of its bundle.
func (f folder) entry(index, size int64) []byte {
	tile := tlog.Tile{H: 8, L: 0, N: index / 256, W: int(min(256, size-index/256*256))}
	bundle := f.get("tile/entries/" + strings.TrimPrefix(tile.Path(), "tile/8/0/"))
	for range index % 256 {
		bundle = bundle[2+binary.BigEndian.Uint16(bundle):]
	}
	return bundle[2 : 2+binary.BigEndian.Uint16(bundle)]
}

func main() {
	f := folder(os.Args[1])
	logKey, err := note.NewVerifier(os.Args[2])
	must(err)
	witness, err := cosigned.NewVerifierForCosignatureV1(os.Args[3])
	must(err)
	checkpoint, _, signed, err := log.ParseCheckpoint(f.get("checkpoint"), logKey.Name(), logKey, witness)
	must(err)
	if len(signed.Sigs) != 2 || len(signed.UnverifiedSigs) != 0 {
		must(fmt.Errorf("%d signatures hold, %d are unknown", len(signed.Sigs), len(signed.UnverifiedSigs)))
	}
	size := int64(checkpoint.Size)
	tree := tlog.Tree{N: size, Hash: tlog.Hash(checkpoint.Hash)}
	reader := tlog.TileHashReader(tree, f) // checks every tile against the root
	seq, err := strconv.ParseInt(os.Args[4], 10, 64)
	must(err)
	record, err := tlog.ProveRecord(size, seq-1, reader)
	must(err)
	content := f.entry(seq-1, size)
	must(tlog.CheckRecord(record, size, tree.Hash, seq-1, tlog.RecordHash(content)))
	oldSize, err := strconv.ParseInt(os.Args[5], 10, 64)
	must(err)
	oldRoot, err := base64.StdEncoding.DecodeString(os.Args[6])
	must(err)
	growth, err := tlog.ProveTree(size, oldSize, reader)
	must(err)
	must(tlog.CheckTree(growth, size, tree.Hash, oldSize, tlog.Hash(oldRoot)))
	fmt.Printf("%s %d %s\n", checkpoint.Origin, size, content)
}

func must(err error) {
	if err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
}
