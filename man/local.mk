dist_man_MANS += %D%/xcpfs.1
