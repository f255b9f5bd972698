// Package models is badly named.
package models
