module github.com/windrose-edc/windrose

go 1.26
